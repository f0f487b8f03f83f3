cimport cython
from gameserver.storage.appends cimport Append
from gameserver.storage.journal_codec cimport encode_entry

cdef class Place:
    cdef object token
    cdef bytes epoch, journal_key, node, store, token_key

cdef class AppendCalls:
    cdef bytes _flag, _sha
    cdef dict _places
    cdef object _prefix
    @cython.locals(entry=Append, place=Place, keys=list, args=list)
    cpdef bytes packed(self, list entries)
    @cython.locals(place=Place)
    cpdef Place _place(self, token)
