cdef class SocketCounts:
    cdef public long long actions, bytes
    cdef public dict others
