cimport cython
from gameserver.state.entity cimport Field, Number, Tracked, others_written
from gameserver.state.literal cimport same
from gameserver.state.pack cimport Packer

cdef double _NEAR, _ROUNDS

@cython.locals(f=Field, others=bint)
cpdef object collect(encoder, Tracked entity, list fields, Packer op, Packer row)
@cython.locals(place=Py_ssize_t, number=Py_ssize_t, new=Number, old=Number)
cpdef object _number(encoder, Tracked entity, Field f, Packer op, Packer row)
@cython.locals(number=Py_ssize_t, now=list, flushed=list)
cpdef object _other(encoder, Tracked entity, Field f, Packer op, Packer row)
@cython.locals(start=double, end=double, before="long long", units="long long", way="long long")
cpdef object _send_steps(encoder, Tracked entity, Field f, double step, double was, double now, Packer op)
cpdef object _send_change(encoder, Tracked entity, Field f, old, new, Packer op)
cpdef object _send(encoder, Tracked entity, Field f, long long key, value, Packer op)
