cimport cython
from gameserver.cluster.services cimport Services

cdef class Edges:
    cdef object __weakref__
    cdef public Services services
    cdef public dict leaving, remotes
    cdef public dict _acted_at, _collected, _heard, _leave_attempts, _sought
    cdef public list _tasks
    cdef public long long _seats, gaps
    cdef public object _bring, _bus, _clock, _is_owner, _next_channel, _prefix, _seek_now, _store, node, policy
    @cython.locals(collected=list, now=double, due=double)
    cpdef object act(self, node, tuple action)
    cpdef object _send_collected(self, node)
    cpdef object to_node(self, node, message)
    cpdef object on_node(self, message)
    cpdef object _on_match(self, remote, payload)
