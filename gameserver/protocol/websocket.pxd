cimport cython

cdef list _SHORT_HEADS

@cython.locals(length=Py_ssize_t)
cpdef bytes ws_frame(bytes payload)
