
cdef class MatchOutput:
    cdef public bint committed, high
    cdef public bytes journal
    cdef public list acks, applied, effects, events, gated_events
    cdef public long long epoch, time_ms, version
    cdef public object ended, patch
