cimport cython
from gameserver.state.entity cimport Tracked, values_of

@cython.locals(entity=Tracked, pairs=list)
cpdef list dump_node(tree, node, long long known_id=*)
cpdef object _plain(tree, value, long long known_id)
@cython.locals(loader=_Loader)
cpdef object load(tree, dict dumped, journal)

cdef class _Loader:
    cdef public object tree
    cdef public list classes
    cdef public dict ids, kinds, nodes
    cpdef object value(self, dumped)
    cpdef object apply(self, list op)
    @cython.locals(length=Py_ssize_t, i=Py_ssize_t)
    cpdef object change(self, node, list op)
    @cython.locals(names=list, fields=dict, i=Py_ssize_t)
    cpdef object change_entity(self, entity, list op)
