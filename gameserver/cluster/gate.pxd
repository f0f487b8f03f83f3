from gameserver.cluster.journal cimport JournalWriter

cdef class OpenGate:
    cpdef bint commit(self, match_id, output, release) except -1

cdef class SnapshotGate:
    cdef public JournalWriter _writer
    cpdef bint commit(self, match_id, output, release) except -1

cdef class JournalGate:
    cdef public bint _strict
    cdef public JournalWriter _writer
    cpdef bint commit(self, match_id, output, release) except -1

cpdef bint is_gated(output) except -1
