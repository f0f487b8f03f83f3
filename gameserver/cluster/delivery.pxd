cimport cython
from gameserver.match.output cimport MatchOutput as Output
from gameserver.protocol.encode cimport encode_frame
from gameserver.protocol.websocket cimport ws_frame

cdef class Segments:
    cdef public bint for_everyone
    cdef public bytes _ops, _shared, _shared_without_low
    cdef public dict private, private_low
    cdef public list _applied, _batches, events
    cdef public long long _epoch, _time_ms, channel, events_count, low_count, private_bytes, version
    cdef public object _applied_slots
    cpdef bytes shared(self)
    cpdef bytes shared_without_low(self)
    @cython.locals(frames=list)
    cpdef list frames_for(self, viewer, long long slot, bint low)
    cpdef object settle(self)
    cpdef bytes _frame(self, list events)

cdef class CarriedSegments(Segments):
    pass

cdef class Gated:
    cdef public bytes everyone
    cdef public dict acks, private
    cpdef bint has_events(self) except -1

cpdef Segments build_segments(long long channel, Output output)

@cython.locals(directed=dict, directed_low=dict)
cpdef object _sort(Segments segments, Output output)

cpdef Gated build_gated(long long channel, Output output)

cpdef object add_acks(Gated gated, long long channel, Output output)
