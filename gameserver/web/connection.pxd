cimport cython
from gameserver.cluster.member cimport Member, Seating
from gameserver.match.actions cimport ActionSpec
from gameserver.protocol.peek cimport ActionHead, peek_action
from gameserver.session.connection cimport SessionMachine
from gameserver.web.counts cimport SocketCounts
from gameserver.web.link cimport Link, Listener

cdef int QUIET
cdef long long NO_CHANNEL

cdef class Connection(Listener):
    # What every frame and input touches stands first: a cache line has room for eight.
    cdef public object ending
    cdef public Link _link
    cdef SessionMachine _machine
    cdef SocketCounts _counts
    cdef long long _last_channel, _short_max
    cdef Member _last_member
    cdef readonly dict _members
    cdef object _limits
    cdef object _hello_timer, _server, _tasks
    cdef public object close_code, id, user
    cdef list _early
    cdef public object _transport
    cdef long long _hard_max, _joining
    cdef readonly double pinged_at
    @cython.locals(action=ActionHead, member=Member, counts=SocketCounts, size=Py_ssize_t)
    cpdef object feed(self, bytes data)
    cpdef object write(self, frames)
    cpdef bint try_write(self, bytes frame, long long buffered_bytes_max) except -1
    cpdef long long buffered_bytes(self) except? -1
    cpdef Member _find_member(self, long long channel)
    @cython.locals(hosted=Seating, spec=ActionSpec, args=object)
    cpdef object _act(self, Member member, ActionHead action, bytes data)
