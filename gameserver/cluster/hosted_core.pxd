cimport cython
from gameserver.cluster.delivery cimport Gated
from gameserver.cluster.fanout cimport Fanout
from gameserver.cluster.gate cimport Gate
from gameserver.cluster.member cimport Seating
from gameserver.cluster.meters cimport GameMeters
from gameserver.cluster.recent cimport RecentFrames
from gameserver.cluster.services cimport Services
from gameserver.cluster.wakes cimport Alarm, Wakes
from gameserver.match.engine cimport Match as Engine

cdef double ENGINE_RETRY_SECONDS, WAKE_SLACK_SECONDS

cdef class HostedCore(Seating):
    # What an input touches stands first, then what a flush does: a cache line has room for eight.
    cdef public bint leaving, closed, _hurried
    cdef public Engine match
    cdef public object _clock, _still
    cdef public dict _engine_failures
    cdef public double _interval
    cdef public Alarm _alarm
    cdef public Services _services
    cdef public GameMeters _meters
    cdef public Fanout _fanout
    cdef public Gated _riding
    cdef public RecentFrames recent
    cdef public Gate _gate
    cdef public object _topics, _waiting, edges, unsaved_since
    cdef public tuple _everyone
    cdef public list _arriving
    cdef public bint _strict, journaled
    cdef public double flushed_at
    cdef public long long _time_ms
    cdef public dict _reserved, members
    cdef public double _overrun_told_at, created_at
    cdef public list _held, _late
    cdef public long long base_version, saved_version
    cdef public object _counted, _schema
    cdef public object game, game_class, journal, options_key, token
    cdef object __weakref__
    @cython.locals(alarm=Alarm, match=Engine, tick_at=double)
    cpdef object _schedule(self, double now)
    @cython.locals(match=Engine, ended=double, now=double, seconds=double, services=Services, wakes=Wakes)
    cpdef object _wake(self)
    cpdef object _after(self)
    @cython.locals(wakes=Wakes)
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
    cpdef object hurried(self)
