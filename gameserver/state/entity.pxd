cimport cython

cdef class Field:
    cdef public object default, exact, name, step, type, visibility
    cdef public bint nodes, owned, public
    cdef public Py_ssize_t added, number

cdef class Tracked:
    # What every write and flush touches stands first: a cache line has room for eight.
    cdef public dict _known, _values
    cdef public list _log, _now, _flushed
    cdef public object _scope, _tree
    cdef public long long _id
    cdef public object _audience, _owner, _parent, _where

@cython.locals(field=Field, number=Py_ssize_t, now=list, log=list)
cpdef object _write(Tracked entity, name, value)
