cdef extern from "Python.h":
    double PyFloat_Unpack8(const unsigned char *data, int little_endian) except? -1

cimport cython

cdef double FLOAT_MAX
cdef int FLOAT, INT

@cython.locals(raw="const unsigned char *", wanted="const unsigned char *", at=Py_ssize_t, count=Py_ssize_t, end=Py_ssize_t,
               place=Py_ssize_t, stop=Py_ssize_t, values=list, first=int, number=double, whole="long long")
cpdef tuple read_numbers(bytes args, bytes kinds)
