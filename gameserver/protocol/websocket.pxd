cimport cython

@cython.locals(length=Py_ssize_t)
cpdef bytes ws_frame(bytes payload)
