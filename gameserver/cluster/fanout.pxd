cimport cython
from gameserver.cluster.delivery cimport Gated, Segments, build_gated, build_segments
from gameserver.cluster.member cimport Member

cdef class FanoutCounts:
    cdef public long long aborted, bytes, events_dropped, frames, frames_dropped, low_events_dropped, slow_consumers
    cdef public long long states, writes

cdef class Fanout:
    cdef public FanoutCounts counts
    cdef public long long _low_max, _max
    cdef public object limits
    cdef public set behind
    @cython.locals(segments=Segments, let_out=Gated)
    cpdef Segments deliver(self, tuple members, long long channel, output, bint gated, double now, Gated riding)
    cpdef object deliver_built(self, tuple members, Segments segments, Gated gated, double now)
    cpdef object release(self, tuple members, long long channel, output)
    @cython.locals(member=Member)
    cpdef object release_built(self, tuple members, Gated gated)
    @cython.locals(member=Member, counts=FanoutCounts, low_max="long long", written="long long")
    cpdef object _deliver_shared(self, tuple members, Segments segments, dict acks, double now)
    @cython.locals(member=Member)
    cpdef object _deliver_mixed(self, tuple members, Segments segments, Gated gated, double now)
    cpdef object _deliver_one(self, Member member, Segments segments, list late, double now)
    @cython.locals(dropped="long long")
    cpdef object _lagging(self, Member member, Segments segments, list late, double now)
    @cython.locals(lost="long long")
    cpdef object _skip(self, Member member, Segments segments, list late, double now)
    cpdef object write_gated(self, Member member, list frames)
    cpdef object _write_all(self, Member member, list frames, list late)
    @cython.locals(counts=FanoutCounts, frame=bytes)
    cpdef object _write(self, Member member, list frames)
    cpdef object gone(self, Member member)

@cython.locals(frames=list)
cpdef list gated_frames(Gated gated, Member member)
