cimport cython
from gameserver.state.changes cimport Changes
from gameserver.state.collect cimport collect
from gameserver.state.entity cimport Tracked, Field
from gameserver.state.literal cimport same
from gameserver.state.tree cimport Tree

cdef class PatchEncoder:
    cdef public Changes changes
    cdef public dict old_members, personal, segments
    cdef public long long flushed_id
    cdef public Tree tree
    cpdef object encode(self, bint journal)
    @cython.locals(everyone=bytes)
    cpdef object _finish(self, journal)
    cpdef Segment segment(self, scope)
    @cython.locals(entity=Tracked, changed=dict, fields=list, op=list, row=list, rows=list)
    cpdef list _entities(self)
    cpdef object owned(self, Tracked entity, Field f, key, value)

cdef class Segment:
    cdef public dict added, changed, structures
    cdef public list loose
    @cython.locals(op=list)
    cpdef object set(self, node_id, key, value)
    @cython.locals(known=list)
    cpdef object add(self, list op)
    cpdef list structural(self, node_id)
    cpdef bytes encode(self)
