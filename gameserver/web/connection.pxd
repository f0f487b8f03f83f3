cimport cython
from gameserver.session.connection cimport SessionMachine
from gameserver.web.link cimport Link, Listener

cdef class Connection(Listener):
    cdef object _counts, _hello_timer, _limits, _server, _tasks
    cdef public object close_code, ending, id, user
    cdef list _early
    cdef readonly dict _members
    cdef SessionMachine _machine
    cdef public Link _link
    cdef public object _transport
    cdef long long _hard_max, _joining
    cdef readonly double pinged_at
    @cython.locals(size="long long")
    cpdef object feed(self, bytes data)
    cpdef object write(self, frames)
    cpdef long long buffered_bytes(self) except? -1
    cpdef object _act(self, member, action, bytes data)
