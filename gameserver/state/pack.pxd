cimport cython

cdef class Packer:
    cdef public long long arrays, count, size
    cdef long long _begun, _capacity
    cdef object _view
    cdef unsigned char[::1] _out
    cdef double[::1] _double
    cdef unsigned char[:] _octets
    cpdef object _grow(self, long long capacity)
    cpdef object _room(self, long long size)
    cpdef object clear(self)
    cpdef object begin(self, long long first)
    @cython.locals(begun="long long", count="long long")
    cpdef bint end(self) except -1
    @cython.locals(at=Py_ssize_t)
    cpdef object put_int(self, long long value)
    @cython.locals(at=Py_ssize_t)
    cpdef object _put_bits(self, long long head, long long value, long long bits)
    @cython.locals(at=Py_ssize_t, place=Py_ssize_t)
    cpdef object put_float(self, double value)
    cpdef object put(self, value)
    @cython.locals(size=Py_ssize_t)
    cpdef object put_raw(self, bytes encoded)
    cpdef bytes taken(self)

cpdef bytes array_head(count)
