from gameserver.cluster.receiver cimport Receiver
from gameserver.match.player cimport Session as EngineSession

cdef class Seating:
    cdef public dict actions
    cdef public long long channel
    cdef public object match_id
    cpdef object receive(self, Member member, long long seq, name, args, bint quiet, crc=*, double heard_at=*)
    cpdef object pass_on(self, args)
    cpdef object leave(self, Member member, reason)
    cpdef object lost(self, Member member)
    cpdef object catch_up(self, Member member)

cdef class Member:
    # What every frame and input touches stands first: a cache line has room for eight.
    cdef public Receiver receiver
    cdef public object flow, session_id
    cdef public EngineSession session
    cdef public Seating hosted
    cdef public bint remote, spectator
    cdef public double behind_since
    cdef public list held
    cdef public long long events_lost, events_version, held_bytes, slot
    cdef public object request, resume, user_id, viewer
    cpdef object hold(self, list frames)
    cpdef list take_held(self)
