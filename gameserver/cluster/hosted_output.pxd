cimport cython
from gameserver.cluster.delivery cimport Gated, Segments
from gameserver.cluster.hosted_core cimport HostedCore
from gameserver.cluster.member cimport Member
from gameserver.match.engine cimport Match as Engine

cdef class HostedOutput(HostedCore):
    @cython.locals(match=Engine)
    cpdef object _flush(self, double now)
    @cython.locals(open_now=bint)
    cpdef object _commit(self, output, double now)
    @cython.locals(riding=Gated, segments=Segments)
    cpdef object _deliver(self, output, bint gated, double now)
    cpdef object _release(self, output)
    cpdef bint _may_ride(self, output) except -1
    @cython.locals(riding=Gated)
    cpdef object _let_riding_out(self)
    cpdef object _let_gated_out(self, output)
    cpdef object _let_out(self, output)
    cpdef object catch_up(self, Member member)
