cimport cython
from gameserver.cluster.delivery cimport Gated, Segments
from gameserver.cluster.hosted_core cimport HostedCore
from gameserver.cluster.member cimport Member
from gameserver.match.engine cimport Match as Engine
from gameserver.match.output cimport MatchOutput as Output

cdef double RIDE_SECONDS_MAX

cdef class HostedOutput(HostedCore):
    @cython.locals(match=Engine)
    cpdef object _flush(self, double now)
    @cython.locals(open_now=bint)
    cpdef object _commit(self, Output output, double now)
    @cython.locals(riding=Gated, segments=Segments)
    cpdef object _deliver(self, Output output, bint gated, double now)
    cpdef object _hold(self, Output output)
    cpdef object _release(self, Output output)
    cpdef bint _may_ride(self, Output output) except -1
    @cython.locals(riding=Gated)
    cpdef object _let_riding_out(self)
    cpdef object _let_gated_out(self, Output output)
    cpdef object _let_out(self, Output output)
    cpdef object catch_up(self, Member member)
