cimport cython

cdef double SHORT_SECONDS

cdef class Durations:
    cdef public list counts
    cdef public double seconds
    @cython.locals(at=Py_ssize_t)
    cpdef object observe(self, double seconds)
