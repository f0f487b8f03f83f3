cimport cython

cdef class _Entry:
    cdef public object flying, match, saving, token, waiting
    cdef public list records
    cdef public bint journaled, refused, still, urgent
    cdef public long long bytes_since_snapshot, last, sent, snapshot_bytes, stored, told_overdue
    cdef public double since

cdef class _Group:
    cdef public list appends, entries

cdef class JournalWriter:
    cdef object __weakref__
    cdef object _clock, _creations, _down_since, _flying, _store
    # What a simulated kill ends can be read:
    cdef readonly object _again, _soon, _timer, _watch
    cdef dict _dirty, _entries
    cdef list _due
    cdef readonly set _creating
    cdef long long _failures, _sends
    cdef readonly object policy
    cdef public object on_refused
    cdef readonly long long appends, rounds
    @cython.locals(entry=_Entry)
    cpdef object token(self, match_id)
    @cython.locals(entry=_Entry)
    cpdef object commit(self, match_id, long long version, bytes record, bint urgent)
    @cython.locals(entry=_Entry)
    cpdef bint is_durable(self, match_id, long long version) except -1
    @cython.locals(entry=_Entry)
    cpdef object when_durable(self, match_id, long long version, callback)
    @cython.locals(entry=_Entry)
    cpdef bint wants_snapshot(self, match_id, double share=*) except -1
    cpdef object _hurry(self, _Entry entry)
    @cython.locals(entry=_Entry)
    cpdef object _hurry_all(self)
    cpdef object _collected(self)
    cpdef object _write_soon(self)
    cpdef object write_now(self)
    @cython.locals(group=_Group)
    cpdef object _write(self)
    @cython.locals(group=_Group, entry=_Entry, due=list, records=list, taken=Py_ssize_t, size="long long")
    cpdef _Group _load(self)
    cpdef object _send(self, _Group group)
    @cython.locals(entry=_Entry, now=double)
    cpdef object _told(self, _Group group, long long sends, answer)
    cpdef object _send_again(self)
    cpdef object _answered(self, _Entry entry, append, outcome, double now)
    cpdef object _settled(self, _Entry entry)
    cpdef object _release(self, _Entry entry)
    cpdef object _refuse(self, _Entry entry)
    cpdef object _fenced(self, _Entry entry)
