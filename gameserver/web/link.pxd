cimport cython
from gameserver.cluster.receiver cimport Receiver
from gameserver.web.frames cimport unmasked
from gameserver.web.sending cimport Sender

cdef int MASKED, SMALL_HEAD_BYTES, SMALL_MAX, WHOLE_BINARY

cdef class Link(Sender):
    cpdef long long buffered_bytes(self) except? -1

cdef class Listener(Receiver):
    cdef public double heard_at
    cpdef object feed(self, bytes data)

cdef class DirectLink(Link):
    cdef bint _writing_paused, _deaf
    cdef Listener _listener
    cdef object _now, _reader
    cdef bint _close_received, _close_sent
    cdef public bint independent
    cdef long long _limit
    cdef object _lost
    @cython.locals(listener=Listener, at=Py_ssize_t, end=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t,
                   head="const unsigned char *")
    cpdef object data_received(self, bytes data)
