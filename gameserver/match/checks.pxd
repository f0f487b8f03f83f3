cdef class GameSpec:
    cdef public list actions
    cdef public dict by_key
    cdef public object cls, empty_us, name
    cdef public double tick_hz
    cdef public bint ticks
    cdef public long long batch_us, hold_us
