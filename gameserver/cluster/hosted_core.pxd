cimport cython
from gameserver.cluster.delivery cimport Gated
from gameserver.cluster.fanout cimport Fanout
from gameserver.cluster.member cimport Seating
from gameserver.cluster.meters cimport GameMeters
from gameserver.cluster.recent cimport RecentFrames
from gameserver.cluster.services cimport Services
from gameserver.cluster.wakes cimport Alarm, Wakes
from gameserver.match.engine cimport Match as Engine

cdef class HostedCore(Seating):
    cdef object __weakref__
    cdef public Alarm _alarm
    cdef public Engine match
    cdef public Fanout _fanout
    cdef public GameMeters _meters
    cdef public Gated _riding
    cdef public RecentFrames recent
    cdef public Services _services
    cdef public bint _strict, closed, journaled, leaving
    cdef public dict _engine_failures, _reserved, members
    cdef public double _interval, _overrun_told_at, created_at, flushed_at
    cdef public list _arriving, _held, _late
    cdef public long long _time_ms, base_version, saved_version
    cdef public object _clock, _counted, _flush_handle, _gate, _schema, _still, _topics, _waiting
    cdef public object edges, game, game_class, journal, options_key, token, unsaved_since
    cdef public tuple _everyone
    @cython.locals(alarm=Alarm, match=Engine, tick_at=double)
    cpdef object _schedule(self, double now)
    @cython.locals(match=Engine, now=double, seconds=double, services=Services, wakes=Wakes)
    cpdef object _wake(self)
    cpdef object _after(self)
    cpdef object _flush_soon(self)
    @cython.locals(now=double)
    cpdef object _flush_now(self)
    cpdef object flush(self)
    cpdef object _flush(self, double now)
    cpdef object _let_riding_out(self)
    cpdef tuple _members(self)

cdef class MatchAlarm(Alarm):
    cdef public HostedCore _hosted
    cpdef object rung(self)
