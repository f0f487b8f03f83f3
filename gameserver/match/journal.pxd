cdef class Recorder:
    cdef public object _match, _misc
    cpdef object record(self, output)
    cpdef object _changes(self)
