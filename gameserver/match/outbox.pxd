cdef class Outbox:
    cdef public long long _effects_max, _events_max
    cdef public list effects, events
    cpdef object undo_to(self, Py_ssize_t events_count, Py_ssize_t effects_count)
    cpdef object take_effects(self)
