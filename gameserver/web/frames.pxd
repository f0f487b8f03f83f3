cimport cython

cdef int LOOP_BYTES_MAX
cdef bytearray _plain

@cython.locals(at=Py_ssize_t, masked="const unsigned char *", plain="unsigned char *")
cpdef bytes unmasked(bytes data, Py_ssize_t start, Py_ssize_t stop)
