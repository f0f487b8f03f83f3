cimport cython
from gameserver.storage.appends cimport Append
from gameserver.storage.journal_codec cimport entry_header

cdef class Place:
    cdef object token
    cdef bytes fence, keys

cdef class AppendCalls:
    cdef bytes _command, _flag
    cdef dict _places
    cdef object _prefix
    @cython.locals(entry=Append, place=Place, keys=list, args=list, count=Py_ssize_t, base=unicode, version=unicode, connected=unicode, size=Py_ssize_t)
    cpdef bytes packed(self, list entries)
    @cython.locals(place=Place)
    cpdef Place _place(self, token)

cpdef bytes _word(bytes word)
