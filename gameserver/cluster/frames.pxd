cimport cython
from gameserver.protocol.websocket cimport ws_frame

cdef dict _UINT_BYTES

@cython.locals(found=list, raw="const unsigned char *", at=Py_ssize_t, end=Py_ssize_t, length=Py_ssize_t,
               start=Py_ssize_t)
cpdef list payloads(bytes run)

cpdef long long kind_of(bytes payload) except -1

@cython.locals(start=Py_ssize_t, head=bytes)
cpdef bytes readdress(bytes payload, long long channel, request=*)

@cython.locals(payload=bytes)
cpdef bytes reframe(bytes run, long long channel)

@cython.locals(first="unsigned char")
cdef Py_ssize_t _uint_bytes(bytes data, Py_ssize_t at) except -1
