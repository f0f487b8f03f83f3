cimport cython
from gameserver.cluster.delivery cimport Gated, Segments
from gameserver.cluster.hosted cimport HostedMatch
from gameserver.cluster.member cimport Member
from gameserver.cluster.receiver cimport RemoteReceiver
from gameserver.match.actions cimport ActionSpec
from gameserver.match.output cimport MatchOutput as Output

cdef class EdgeSeat(RemoteReceiver):
    cdef public bint muted, new
    cdef public double attached_at
    cdef public EdgeLink link
    cdef public Member member
    cdef public long long attempt, number
    cpdef object write(self, frames)
    cpdef long long buffered_bytes(self) except? -1
    cpdef object detached(self, channel)
    cpdef object abort(self, close_code, reason)

cdef class EdgeLink:
    cdef public EdgeFan fan
    cdef public dict by_session, seats
    cdef public long long serial, watchers
    cdef public object _checksum, edge
    cpdef object drop(self, EdgeSeat seat)
    cpdef object say(self, EdgeSeat seat, Member member, frames)
    @cython.locals(parts=dict, low=dict, events=dict, acks=dict)
    cpdef bint private(self, Segments segments, Gated gated, long long version, bint alone) except -1

cdef class EdgeFan:
    cdef public HostedMatch hosted
    cdef public Owners owner
    cdef public dict links
    cdef public long long events_total, serial, version
    @cython.locals(gated=Gated)
    cpdef object release(self, Output output)
    cpdef dict _private(self, Segments segments, Gated gated, long long version, bint alone)
    cpdef object _share(self, message)
    cpdef object _hold(self, Gated gated)

cdef class Owners:
    cdef public dict _carried, _heard
    cdef public double _silent_seconds_max
    cdef public long long serials_until
    cdef public object _bus, _clock, _find, address, node, prefix
    cpdef object to_edge(self, edge, message)
    cpdef object to_match(self, match_id, message)
    @cython.locals(seat=EdgeSeat)
    cpdef object acts(self, message)
    @cython.locals(spec=ActionSpec)
    cpdef object _read(self, Member member, name, args)
    @cython.locals(link=EdgeLink)
    cpdef EdgeSeat _seat(self, match_id, edge, session)
    @cython.locals(hosted=HostedMatch, fan=EdgeFan)
    cpdef EdgeLink _link(self, match_id, edge)

cpdef bint _has_gated(Output output) except -1
