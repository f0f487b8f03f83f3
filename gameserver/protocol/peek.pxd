cimport cython

cdef bint BY_HAND
cdef unsigned char ARRAY_OF_SIX, ACTION
cdef long long CHANNEL_MAX, NAME_NUMBER_MAX, NUMBER_MAX

cdef class ActionHead:
    cdef public long long channel, flags, seq
    cdef public object args, name

@cython.locals(head=ActionHead)
cpdef ActionHead peek_action(bytes data)

@cython.locals(head=ActionHead, raw="const unsigned char *", end=Py_ssize_t, channel_end=Py_ssize_t, seq_end=Py_ssize_t,
               name_end=Py_ssize_t, args_end=Py_ssize_t, channel="long long", seq="long long", name="long long")
cdef ActionHead _read_head(bytes data)

@cython.locals(first="unsigned char")
cdef Py_ssize_t _uint_end(const unsigned char *raw, Py_ssize_t at, Py_ssize_t end) noexcept

@cython.locals(value="long long", place=Py_ssize_t)
cdef long long _uint(const unsigned char *raw, Py_ssize_t at, Py_ssize_t stop) noexcept

@cython.locals(first="unsigned char", wanted=Py_ssize_t)
cdef Py_ssize_t _value_end(const unsigned char *raw, Py_ssize_t at, Py_ssize_t end) noexcept
