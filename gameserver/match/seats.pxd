from gameserver.match.inbox cimport MatchInbox
from gameserver.match.player cimport Player, Session

cdef class MatchSeats(MatchInbox):
    cdef public object empty_since_us
    cdef public dict held, session_of
    cdef public bint seats_changed
    cpdef object expire(self, long long at_us)
    cpdef long long deadline_us(self) except? -1
