cimport cython

cdef long long NEVER, NO_SLOT, SLOTS_PER_SECOND
cdef double FAR_SECONDS, NEAR_SECONDS, TURN_SECONDS, URGENT_SECONDS, URGENT_TURN_SECONDS

cdef class Alarm:
    cdef public double at
    cdef public long long _slot
    cdef public object _ring
    cdef public Wakes _wakes
    cpdef bint is_set(self) except -1
    cpdef object set(self, double due, double now)
    cpdef object clear(self)
    cpdef object ring(self, long long last)
    cpdef object rung(self)
    cpdef object hurried(self)

cdef class Wakes:
    cdef public double now, started, wall
    cdef public dict _slots
    cdef public list _due
    cdef public list _order
    cdef public long long _last, _timer_slot
    cdef public object _clock, _perf, _soon, _timer, after_hurry
    cdef public list _hurried
    cdef public double _urgent_until
    @cython.locals(alarms=dict)
    cpdef object add(self, Alarm alarm, long long slot)
    @cython.locals(alarms=dict)
    cpdef object remove(self, Alarm alarm, long long slot)
    cpdef object hurry(self, Alarm alarm)
    @cython.locals(alarm=Alarm, hurried=list)
    cpdef bint _do_urgent(self) except -1
    cpdef object _start_timer(self, long long slot)
    cpdef object _let_in(self)
    @cython.locals(alarm=Alarm, due=list, last="long long", order=list, rung=Py_ssize_t, slot="long long", began=double, until=double)
    cpdef object _ring(self)
