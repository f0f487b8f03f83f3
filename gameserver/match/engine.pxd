from gameserver.match.seats cimport MatchSeats

cdef class Match(MatchSeats):
    cdef object __weakref__
    cdef public bint _end_reported
    cdef public object _recorder, high_events
    cdef public dict _states, unsettled
    cdef public long long tick_due_us
    cpdef long long _tick_us(self, long long number)
    cpdef long long tick_number(self)
    cpdef object _run_until(self, long long at_us)
    cpdef object _tick(self, double dt)
