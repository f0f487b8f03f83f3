cimport cython
from gameserver.match.actions cimport ActionSpec
from gameserver.match.core cimport MatchCore
from gameserver.match.player cimport Session
from gameserver.match.queued cimport Queued
from gameserver.match.rows cimport outcome_row

cdef class MatchInbox(MatchCore):
    cdef public list queue
    cdef public long long _queued_max, batch_due_us, _quiet_ack_every, _results_kept
    cdef public bint high, journaling
    cdef public list acks, acted, consumed, repeats
    cdef public dict sessions, watchers
    cpdef object receive(self, session_id, long long seq, name, args, double now, double wall, bint quiet=*, crc=*)
    @cython.locals(item=Queued, waiting="long long", at_us="long long", body="long long")
    cpdef object accept(self, Session session, long long seq, ActionSpec spec, name, args, double now, double wall, bint quiet, crc)
    @cython.locals(session=Session, spec=ActionSpec, values=tuple, seq="long long", version="long long", crc="long long", error=bint)
    cpdef object apply(self, Queued item)
    cpdef object finish(self)
