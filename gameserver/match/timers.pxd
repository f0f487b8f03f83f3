cdef class Timers:
    cdef public set _added, _removed
    cdef public dict _pending
    cdef public list heap
    cdef public long long next_id, _told_id
    cdef public object _record
    cpdef long long next_due_us(self)
    cpdef object take_changes(self)
