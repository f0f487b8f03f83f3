cdef class Receiver:
    cpdef object write(self, frames)
    cpdef bint try_write(self, bytes frame, long long buffered_bytes_max) except -1
    cpdef long long buffered_bytes(self) except? -1
    cpdef object detached(self, channel)
    cpdef object abort(self, close_code, reason)

cdef class RemoteReceiver(Receiver):
    cdef public object address
