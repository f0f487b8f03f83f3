cimport cython

cdef bint BY_HAND

cpdef bint is_plain(bytes args) except -1

@cython.locals(raw="const unsigned char *", at=Py_ssize_t, size=Py_ssize_t, first="unsigned char")
cdef bint _is_plain(bytes args, Py_ssize_t end) except -1

cdef bint _is_finite(const unsigned char *raw, Py_ssize_t at, Py_ssize_t size) noexcept

@cython.locals(place=Py_ssize_t)
cdef bint _is_ascii(const unsigned char *raw, Py_ssize_t at, Py_ssize_t size) noexcept
