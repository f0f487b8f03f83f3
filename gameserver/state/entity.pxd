cimport cython

cdef extern from *:
    """
    #include <string.h>
    #define NUMBERS_BYTES (8 * sizeof(double))
    #define numbers_copied(numbers) PyBytes_FromStringAndSize((const char *)(numbers), NUMBERS_BYTES)
    #define numbers_put_back(numbers, copy) memcpy((numbers), PyBytes_AS_STRING(copy), NUMBERS_BYTES)
    """
    bytes numbers_copied(void *numbers)
    void numbers_put_back(void *numbers, bytes copy)

cdef long long NUMBERS_MAX, _period

cdef union Number:
    double real
    long long whole

cdef class Field:
    # What every write, read and flush looks at stands first.
    cdef public object exact
    cdef public Py_ssize_t place, number
    cdef public bint nodes, owned, public, whole
    cdef public object step, name
    cdef public Py_ssize_t added
    cdef public object default, type, visibility

cdef class Tracked:
    # What every write and flush touches stands first: a cache line has room for eight.
    cdef public dict _known
    cdef public list _log
    cdef public object _scope, _tree
    cdef public long long _id
    cdef public long long _folded
    cdef long long _period
    cdef bint _others
    cdef Number _numbers[8]
    cdef Number _flushed_numbers[8]
    cdef public dict _values
    cdef public list _now, _flushed
    cdef public object _audience, _owner, _parent, _where

@cython.locals(field=Field, number=Py_ssize_t, now=list, log=list)
cpdef object _write(Tracked entity, name, value)
@cython.locals(place=Py_ssize_t)
cpdef object _number(Tracked entity, Field field)
@cython.locals(place=Py_ssize_t)
cpdef object _put_number(Tracked entity, Field field, value)
@cython.locals(f=Field, made=list)
cpdef list values_of(Tracked entity)
@cython.locals(written=bint)
cpdef bint others_written(Tracked entity) except -1
@cython.locals(place=Py_ssize_t)
cpdef object remember(Tracked entity)
cpdef object undo(Tracked entity, Field field, old)
cpdef object unflush(Tracked entity, Field field, old)
cpdef long long begin_period() except? -1
