cdef extern from "sys/socket.h":
    Py_ssize_t send(int socket, const char *data, size_t size, int flags)

cimport cython

cdef bint COMPILED
cdef int MSG_DONTWAIT, MSG_NOSIGNAL, NONE

cdef class Sender:
    cdef int _socket
    cdef readonly object transport
    cdef bint _waiting
    cpdef object lost(self)
    @cython.locals(sent=Py_ssize_t)
    cpdef object write(self, bytes frame)
    cpdef object write_all(self, frames)

cpdef Py_ssize_t send_now(int socket, bytes data)
