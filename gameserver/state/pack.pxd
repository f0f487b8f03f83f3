cimport cython

cdef extern from "Python.h":
    int PyFloat_Pack8(double number, unsigned char *data, int little_endian) except -1

cdef extern from "string.h":
    void *memcpy(unsigned char *to, const unsigned char *source, size_t size)

cdef bint COMPILED
cdef bytes NEXT
cdef list _SMALL_HEADS
cdef long long _INT32_MIN, _UINT32_MAX  # written out, they would be objects: a C int does not hold them

cdef unsigned long long _INT64_MAX

cdef class Packer:
    cdef public long long arrays, count, size
    cdef long long _begun, _capacity
    cdef object _view
    cdef unsigned char *_out
    @cython.locals(made=bytearray)
    cpdef object _grow(self, long long capacity)
    cpdef object _room(self, long long size)
    cpdef object clear(self)
    cpdef object begin(self, long long first)
    @cython.locals(begun="long long", count="long long")
    cpdef bint end(self) except -1
    @cython.locals(at=Py_ssize_t)
    cpdef object put_int(self, long long value)
    cpdef object put_uint(self, unsigned long long value)
    cpdef object put_next(self, long long node_id)
    @cython.locals(at=Py_ssize_t)
    cpdef object _put_bits(self, long long head, long long value, long long bits)
    @cython.locals(at=Py_ssize_t)
    cpdef object put_float(self, double value)
    cpdef object put(self, value)
    @cython.locals(size=Py_ssize_t)
    cpdef object put_raw(self, bytes encoded)
    cpdef bytes taken(self)

cpdef bytes array_head(Py_ssize_t count)
