cimport cython
from gameserver.match.actions cimport ActionSpec

cdef long long _CRC_BITS, _CRC_MASK, _VERSION_MAX

cdef class Player:
    cdef public object id, name, role, joined_at
    cdef public bint connected
    cdef public long long slot

cdef class Session:
    cdef public long long applied, received
    cdef public bint acted, left
    cdef public Player player
    cdef public dict _outcomes, rates
    cdef public bytes row_head
    cdef public object id, user, replaced
    cdef unsigned long long[::1] _successes
    @cython.locals(place=Py_ssize_t)
    cpdef object settle(self, long long seq, long long crc, long long version, bint error, result, long long kept)
    @cython.locals(place=Py_ssize_t, success="unsigned long long")
    cpdef object outcome(self, long long seq, long long kept)
    cpdef list dump_outcomes(self)
