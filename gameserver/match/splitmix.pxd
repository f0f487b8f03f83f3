cimport cython

cdef unsigned long long MASK, _MIX_1, _MIX_2, _STEP

cdef class Splitmix:
    cdef public unsigned long long state
    @cython.locals(bits="unsigned long long")
    cpdef unsigned long long draw(self) noexcept
