cdef class Player:
    cdef public object id, name, role, joined_at
    cdef public bint connected
    cdef public long long slot

cdef class Session:
    cdef public list _outcomes
    cdef public long long applied, received
    cdef public object id, user, replaced
    cdef public Player player
    cdef public dict rates
    cpdef object settle(self, long long seq, crc, long long version, bint error, result, long long kept)
    cpdef object outcome(self, long long seq, long long kept)
