cimport cython
from gameserver.state.changes cimport Changes
from gameserver.state.collect cimport collect
from gameserver.state.entity cimport Tracked, Field
from gameserver.state.literal cimport same
from gameserver.state.journal cimport journal_ops
from gameserver.state.pack cimport Packer, array_head
from gameserver.state.tree cimport Tree

cdef class Segment

cdef Packer _OPS, _ASIDE, _ROWS
cdef dict _NONE

cdef class PatchEncoder:
    cdef public Segment everyone
    cdef public Changes changes
    cdef public dict old_members, personal, segments
    cdef public long long flushed_id
    cdef public Tree tree
    @cython.locals(rows=Packer)
    cpdef object encode(self, bint journal)
    cpdef object _finish(self, journal)
    cpdef Segment segment(self, scope)
    @cython.locals(entity=Tracked, fields=list, ops=Packer, aside=Packer)
    cpdef object _entities(self, Packer rows)
    cpdef list personal_ops(self, long long level, receivers)
    cpdef object owned(self, Tracked entity, Field f, key, value)

cdef class Segment:
    cdef public dict added, changed, structures
    cdef public list loose
    cdef public bytes packed
    cdef public long long packed_count
    cpdef object first(self, list op)
    @cython.locals(op=list)
    cpdef object set(self, node_id, key, value)
    cpdef object pack(self, Packer ops)
    cpdef list structural(self, node_id)
    @cython.locals(ops=list)
    cpdef bytes encode(self)
