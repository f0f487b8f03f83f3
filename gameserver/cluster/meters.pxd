from gameserver.metrics cimport Durations

cdef class GameMeters:
    cdef public dict _actions
    cdef public long long flush_bytes, flushes
    cdef public object _metrics, _name, failures, overruns, skipped
    cdef public Durations tick
