cimport cython
from gameserver.match.journal cimport Recorder
from gameserver.match.outbox cimport Outbox
from gameserver.match.output cimport MatchOutput
from gameserver.match.player cimport Session
from gameserver.match.queued cimport Queued
from gameserver.match.seats cimport MatchSeats
from gameserver.match.timers cimport Timers
from gameserver.state.tree cimport Tree as StateTree

cdef extern from "math.h":
    long long round "llrint" (double)

cdef class Match(MatchSeats):
    cdef object __weakref__
    cdef public bint _end_reported
    cdef public Recorder _recorder
    cdef public object high_events
    cdef public dict _states, unsettled
    cdef public long long tick_due_us
    @cython.locals(at_us="long long")
    cpdef object wake(self, double now, double wall)
    cpdef object next_wake(self, double now)
    cpdef bint only_ticks(self) except -1
    cpdef bint has_output(self) except -1
    cpdef long long _due_us(self) except? -1
    @cython.locals(number="long long", next_us="long long", due_us="long long", dt=double)
    cpdef object _run_ticks(self, long long at_us)
    cpdef long long _tick_us(self, long long number) except? -1
    cpdef long long tick_number(self) except? -1
    @cython.locals(timers=Timers, item=Queued, queue=list, fired="long long", taken=Py_ssize_t, timer_us="long long",
                   never="long long")
    cpdef object _run_until(self, long long at_us)
    cpdef object _tick(self, double dt)
    @cython.locals(outbox=Outbox)
    cpdef bint _fresh(self) except -1
    @cython.locals(tree=StateTree, outbox=Outbox, output=MatchOutput, version="long long", applied=list, effects=list,
                   events=list, gated_events=list, session=Session)
    cpdef object take_output(self)
