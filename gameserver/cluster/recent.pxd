cimport cython
from gameserver.cluster.delivery cimport Segments

cdef class RecentFrames:
    cdef public long long _bytes_max, _frames_max, kept_bytes, version
    cdef public object _sent
    @cython.locals(version="long long", size="long long", shared=bytes)
    cpdef object add(self, Segments segments)
    cpdef object forget(self, long long version)
