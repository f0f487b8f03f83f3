cimport cython
from gameserver.cluster.delivery cimport CarriedSegments, Gated
from gameserver.cluster.edge cimport Edges
from gameserver.cluster.fanout cimport Fanout
from gameserver.cluster.frames cimport kind_of, payloads, readdress, reframe
from gameserver.cluster.member cimport Member, Seating
from gameserver.cluster.seats cimport Seat
from gameserver.cluster.services cimport Services
from gameserver.protocol.plain cimport is_plain
from gameserver.protocol.websocket cimport ws_frame

cdef class RemoteMatch(Seating):
    # What an input and a frame touch stands first: a cache line has room for eight.
    cdef public bint closed
    cdef public dict by_session
    cdef public object owner, _clock
    cdef public Edges _edges
    cdef public long long epoch, serial, link, version, events_total
    cdef public dict _pending, seats
    cdef public Fanout _fanout
    cdef public tuple _live
    cdef public Services _services
    cdef public object _joined, next_owner, numbered_by, subscription
    cdef public Seat watch
    @cython.locals(seat=Seat)
    cpdef object receive(self, Member member, long long seq, name, args, bint quiet, crc=*, double heard_at=*)
    cpdef object pass_on(self, args)
    cpdef object leave(self, Member member, reason)
    cpdef object lost(self, Member member)
    cpdef object catch_up(self, Member member)
    cpdef object _act(self, Seat seat, kept, bint quiet)
    cpdef object shared(self, message)
    @cython.locals(segments=CarriedSegments, channel="long long")
    cpdef object _deliver(self, message, bytes frame, private)
    cpdef object _release(self, private, bytes urgent)
    @cython.locals(gated=Gated, seat=Seat)
    cpdef Gated _gated(self, private, bytes urgent)
    @cython.locals(seat=Seat)
    cpdef object _note_events(self, Gated gated, long long version)
    cpdef tuple _members(self)
