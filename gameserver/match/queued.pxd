from gameserver.match.actions cimport ActionSpec
from gameserver.match.player cimport Session

cdef class Queued:
    cdef public Session session
    cdef public ActionSpec spec
    cdef public long long at_us, crc, seq
    cdef public object args, name
    cdef public bint done, quiet
