cimport cython

cdef class Field:
    cdef public object default, exact, name, step, type, visibility
    cdef public bint nodes, owned, public
    cdef public Py_ssize_t added, number

cdef class Tracked:
    cdef public dict _known, _values
    cdef public list _flushed, _log, _now
    cdef public long long _id
    cdef public object _audience, _owner, _parent, _scope, _tree, _where

@cython.locals(field=Field, number=Py_ssize_t, now=list, log=list)
cpdef object _write(Tracked entity, name, value)
