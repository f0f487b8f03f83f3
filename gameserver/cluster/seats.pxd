cdef class Seat:
    cdef public bint attached, in_step, resend_soon, spectator
    cdef public dict joining, kept, users
    cdef public double resend_at
    cdef public list members
    cdef public long long attempt, epoch, events_total, events_version, number, resends, settled, slot, version
    cdef public object asked_at, resume, session, viewer
    cdef public set wanting
    cpdef object keep(self, action, double now)
