from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM

cdef extern from "Python.h":
    double PyFloat_Unpack8(const unsigned char *data, int little_endian) except? -1
    void PyObject_GC_UnTrack(object)

cimport cython

cdef double FLOAT_MAX
cdef int FLOAT, INT

@cython.locals(raw="const unsigned char *", wanted="const unsigned char *", at=Py_ssize_t, count=Py_ssize_t, end=Py_ssize_t,
               place=Py_ssize_t, stop=Py_ssize_t, values=tuple, first=int, number=double, whole="long long")
cpdef tuple read_numbers(bytes args, bytes kinds)
cdef void _put(tuple values, Py_ssize_t place, value) noexcept
