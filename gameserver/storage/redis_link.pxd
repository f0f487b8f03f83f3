cimport cython

cdef class RedisLink:
    cdef object __weakref__
    cdef object _connection, _reader, _transport
    cdef readonly bint closed
    cdef readonly double heard_at
    cdef readonly object loop
    cpdef object answered(self, answer)
    cpdef object lost(self, error)
    cpdef object write(self, bytes data)
    cpdef object close(self, error=*)
    cpdef object data_received(self, data)

cdef class RequestLink(RedisLink):
    cdef object _asked, _timer
    cpdef object send(self, bytes data, Py_ssize_t count, double due_at, told)
    @cython.locals(request=_Request)
    cpdef object answered(self, answer)
    @cython.locals(request=_Request)
    cpdef object lost(self, error)
    @cython.locals(request=_Request)
    cpdef object _look(self)

cdef class _Request:
    cdef list answers
    cdef object told
    cdef Py_ssize_t count
    cdef double due_at
