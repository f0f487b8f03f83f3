cimport cython
from gameserver.storage.redis_link cimport RedisLink, RequestLink

cdef class RedisBus:
    cdef object __weakref__
    cdef public object counts
    cdef public bint _closed, _ready
    cdef public double _sent_at
    cdef public long long _queued_bytes
    cdef public dict _handlers, _told
    cdef public set _missing, _standing
    cdef public list _gap_callbacks, _tasks
    cdef public object _all_sent, _changed, _loop, _pool, _queue, _settings
    cdef public _Mouth _speaking
    cdef public _Ears _listening
    cpdef object publish(self, channel, payload)
    cpdef object _go_on(self)
    cpdef object _send(self, _Mouth link)
    cpdef list _take_batch(self)
    cpdef object _heard(self, message)
    @cython.locals(subscription=_Subscription)
    cpdef object _arrived(self, channel, payload)

cdef class _Subscription:
    cdef RedisBus _bus
    cdef public object channel, handler, stands

cdef class _Mouth(RequestLink):
    cdef public object ended
    cpdef object lost(self, error)

cdef class _Ears(RedisLink):
    cdef public object _tell, _tell_changed, error
    cpdef object answered(self, answer)
    cpdef object lost(self, error)
