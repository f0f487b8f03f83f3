cimport cython
from gameserver.cluster.hosted_output cimport HostedOutput
from gameserver.cluster.member cimport Member
from gameserver.match.actions cimport ActionSpec
from gameserver.match.engine cimport Match as Engine

cdef class HostedMatch(HostedOutput):
    @cython.locals(match=Engine, spec=ActionSpec, now=double, wall=double)
    cpdef object receive(self, Member member, long long seq, name, args, bint quiet, crc=*, double heard_at=*)
    cpdef object leave(self, Member member, reason)
    cpdef object lost(self, Member member)
