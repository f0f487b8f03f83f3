cimport cython
from gameserver.match.core cimport MatchCore
from gameserver.match.player cimport Player, Session

cdef class MatchInbox(MatchCore):
    cdef public dict sessions, watchers, applied
    cdef public object queue
    cdef public list acks, repeats, consumed
    cdef public long long batch_due_us
    cdef public bint journaling, high
    @cython.locals(session=Session, waiting="long long", at_us="long long")
    cpdef object receive(self, session_id, long long seq, name, args, double now, double wall, bint quiet=*, crc=*)
    @cython.locals(session=Session, player=Player, seq="long long", version="long long", error=bint)
    cpdef object apply(self, item)
    cpdef object finish(self)
