cdef class Durations:
    cdef public list counts
    cdef public double seconds
    cpdef object observe(self, double seconds)
