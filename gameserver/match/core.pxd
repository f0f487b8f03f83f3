cimport cython
from gameserver.match.checks cimport GameSpec
from gameserver.match.outbox cimport Outbox
from gameserver.match.splitmix cimport Splitmix
from gameserver.match.timers cimport Timers
from gameserver.state.tree cimport Tree

cdef extern from "math.h":
    long long round "llrint" (double)  # to the nearest, halves to even ones: what Python's does

cdef class MatchCounts:
    cdef public long long actions, failures, refused, ticks, ticks_skipped, timers

cdef class Running:
    cdef public object match, what
    cdef public long long number

cdef class MatchCore:
    # What an input touches stands first, then what a tick does: a cache line has room for eight.
    cdef public GameSpec spec
    cdef public object ended
    cdef public bint touched, urgent
    cdef public long long clock_us, origin_us
    cdef public double wall
    cdef public Tree tree
    cdef public Outbox outbox
    cdef public Splitmix _random
    cdef public Timers timers
    cdef public Running _running
    cdef public MatchCounts counts
    cdef public object dice, ending, game
    cdef public long long version, failures, tick_failures
    cdef public long long epoch
    cdef public object id, limits, log
    cdef public dict grids, heard, options, players, summary
    cdef public list topics
    cpdef long long enter(self, double now, double wall) except? -1
    cpdef double host_time(self, long long at_us) except? -1
    @cython.locals(outbox=Outbox, random=Splitmix, random_state="unsigned long long", running=Running, tree=Tree,
                   mark="long long", events_count=Py_ssize_t, effects_count=Py_ssize_t)
    cpdef object call(self, what, method, tuple args, bint returns=*)
    cpdef bint attempt(self, what, method, tuple args) except -1
