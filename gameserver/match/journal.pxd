cimport cython
from gameserver.match.output cimport MatchOutput
from gameserver.match.seats cimport MatchSeats
from gameserver.state.pack cimport Packer, array_head

cdef Packer _OUT
cdef bytes _NIL, _NINE, _NOTHING

cdef class Recorder:
    cdef public MatchSeats _match
    cdef public tuple _misc
    @cython.locals(match=MatchSeats, consumed=list, row=bytes, out=Packer)
    cpdef bytes record(self, MatchOutput output)
    @cython.locals(match=MatchSeats, misc=tuple)
    cpdef object _changes(self)

cpdef tuple _misc_of(MatchSeats match)
@cython.locals(head=bytes, count="long long")
cpdef bytes encode_records(list records)
