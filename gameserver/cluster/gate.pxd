from gameserver.cluster.journal cimport JournalWriter
from gameserver.match.output cimport MatchOutput as Output

cdef class OpenGate:
    cpdef bint commit(self, match_id, Output output, release) except -1

cdef class SnapshotGate:
    cdef public JournalWriter _writer
    cpdef bint commit(self, match_id, Output output, release) except -1

cdef class JournalGate:
    cdef public bint _strict
    cdef public JournalWriter _writer
    cpdef bint commit(self, match_id, Output output, release) except -1

cpdef bint is_gated(Output output) except -1
