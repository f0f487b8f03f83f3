cimport cython

cdef double ROUNDING_SECONDS
cdef long long MESSAGE_BYTES_PER_TOKEN

cdef class ConnectionPolicy:
    cdef public double budget_seconds, hello_timeout_seconds, messages_burst, messages_per_second, token_seconds
    cdef public long long channels_max, requests_max

cdef class SessionMachine:
    # What every message touches stands first.
    cdef double _full_at
    cdef readonly ConnectionPolicy policy
    cdef set _requests
    cdef object _state
    cdef dict _verdicts
    cdef readonly double hello_deadline
    cdef readonly dict channels
    cdef readonly object claims
    @cython.locals(policy=ConnectionPolicy, full_at=double, tokens=double)
    cpdef object admit(self, long long size_bytes, double now)
