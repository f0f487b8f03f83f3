from gameserver.cluster.journal cimport JournalWriter
from gameserver.match.output cimport MatchOutput as Output

cdef class Gate:
    cpdef bint commit(self, match_id, Output output) except -1
    cpdef object hold(self, match_id, Output output, release)

cdef class OpenGate(Gate):
    pass

cdef class SnapshotGate(Gate):
    cdef public JournalWriter _writer

cdef class JournalGate(Gate):
    cdef public bint _strict
    cdef public JournalWriter _writer

cpdef bint is_gated(Output output) except -1
