cimport cython

cpdef object quantize(value, double step)
@cython.locals(x=double, y=double)
cpdef bint same(a, b) except -1
