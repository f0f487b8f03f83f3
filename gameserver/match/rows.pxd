cimport cython

cdef bint COMPILED
cdef int _FALSE, _NIL, _UINT8
cdef Py_ssize_t _HEAD_BYTES_MAX
cdef bytearray _out

cpdef bytes outcome_row(bytes head, long long seq, long long crc, bint error, result, rate)
@cython.locals(begin="const unsigned char *", out="unsigned char *", at=Py_ssize_t, place=Py_ssize_t)
cdef bytes _success(bytes head, long long seq, long long crc)
@cython.locals(width=int, shift=int)
cdef Py_ssize_t _put_uint(unsigned char *out, Py_ssize_t at, long long value) noexcept
