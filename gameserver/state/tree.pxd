from gameserver.state.entity cimport begin_period

cdef class Tree:
    cdef public list classes, log, new_classes, new_entities
    cdef public dict _groups, by_audience, gone, indexed, moved, rescoped
    cdef public object root, viewers
    cdef public long long _marked_next_id, _settled, flushed_id, next_id
    cdef public bint relink
    cpdef long long mark(self) except? -1
    cpdef object check(self, long long mark)
    cpdef object rollback(self, long long mark)
    cpdef object record(self, undo)
    cpdef object _settle(self)
    cpdef long long _take_id(self) except? -1
    cpdef object flush(self, bint journal=*)
    cpdef object note_flushed(self)
