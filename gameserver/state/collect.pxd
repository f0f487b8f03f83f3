cimport cython
from gameserver.state.entity cimport Tracked, Field
from gameserver.state.literal cimport same
from gameserver.state.pack cimport Packer

cdef double _NEAR, _ROUNDS

@cython.locals(f=Field, number=Py_ssize_t, now=list, flushed=list)
cpdef object collect(encoder, Tracked entity, list fields, Packer op, Packer row)
@cython.locals(was=double, now=double, start=double, end=double, units="long long", way="long long")
cpdef object _send_steps(encoder, Tracked entity, Field f, double step, old, new, Packer op)
cpdef object _send(encoder, Tracked entity, Field f, long long key, value, Packer op)
