cimport cython
from gameserver.match.actions cimport ActionSpec

cdef long long _CRC_BITS, _CRC_MASK, _VERSION_MAX

cdef class Player:
    cdef public object id, name, role, joined_at
    cdef public bint connected
    cdef public long long slot

cdef class Session:
    cdef public list _outcomes
    cdef public long long applied, received
    cdef public object id, user, replaced
    cdef public Player player
    cdef public dict rates
    cpdef object settle(self, long long seq, long long crc, long long version, bint error, result, long long kept)
    cpdef object outcome(self, long long seq, long long kept)

@cython.freelist(64)
cdef class Queued:
    cdef public Session session
    cdef public ActionSpec spec
    cdef public long long at_us, crc, seq
    cdef public object args, name
    cdef public bint done, quiet
