from gameserver.cluster.receiver cimport Receiver

cdef class Member:
    cdef public Receiver receiver
    cdef public bint remote, spectator
    cdef public double behind_since
    cdef public list held
    cdef public long long events_lost, events_version, held_bytes, slot
    cdef public object flow, hosted, request, resume, session_id, user_id, viewer
    cpdef object hold(self, list frames)
    cpdef list take_held(self)
