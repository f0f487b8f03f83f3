cimport cython
from gameserver.state.entity cimport Tracked, begin_period

cdef bint COMPILED

cdef class Changes:
    cdef public list entities
    cdef public dict audiences, lists, maps, members, owners, reinserted
    cdef public bint others
    @cython.locals(entry=tuple, entity=Tracked, entities=list, fold="long long")
    cpdef object _fold_all(self, list log, long long flushed_id)
    cpdef object _fold(self, tuple entry, long long flushed_id)
    cpdef object _fold_audience(self, what, node, old, long long flushed_id)
