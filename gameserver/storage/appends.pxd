cdef class Append:
    cdef readonly object connected, token
    cdef readonly bytes payload
    cdef readonly long long base, state_version, version
