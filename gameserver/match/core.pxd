cdef class MatchCore:
    cdef public long long clock_us, origin_us, epoch, version, failures, tick_failures
    cdef public object counts, dice, ended, ending, game, id, limits, log, outbox, running, spec, timers, tree
    cdef public bint touched, urgent
    cdef public double wall
    cdef public dict grids, heard, options, players, summary
    cdef public list topics
    cpdef long long enter(self, double now, double wall)
    cpdef double host_time(self, long long at_us)
    cpdef object call(self, str what, method, tuple args, bint returns=*)
