from gameserver.match.numbers cimport read_numbers

cdef class ActionSpec:
    cdef bytes _numbers
    cdef public object _named, _positional, _read, method, name, priority
    cdef public long long burst_us, crc, interval_us, number
    cdef public bint high
    cpdef object read(self, args)
    cpdef object values(self, args)
