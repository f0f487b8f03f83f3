cimport cython

cdef double[::1] _BOUNDS
cdef Py_ssize_t _BOUNDS_COUNT

cdef class Durations:
    cdef public long long[::1] counts
    cdef public double seconds
    @cython.locals(at=Py_ssize_t)
    cpdef object observe(self, double seconds)
