cimport cython
from gameserver.state.entity cimport Tracked

cdef class Changes:
    cdef public dict audiences, entities, lists, maps, members, owners, reinserted
    cdef public bint others
    @cython.locals(entry=tuple, entity=Tracked, entities=dict)
    cpdef object _fold_all(self, list log, long long flushed_id)
    cpdef object _fold(self, tuple entry, long long flushed_id)
    cpdef object _fold_audience(self, what, node, old, long long flushed_id)
