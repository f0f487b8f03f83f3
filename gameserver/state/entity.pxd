cdef class Field:
    cdef public object added, default, exact, name, number, step, type, visibility
    cdef public bint nodes, owned, public
