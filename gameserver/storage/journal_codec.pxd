cimport cython
from gameserver.storage.appends cimport Append

cpdef bytes encode_entry(Append append)
@cython.locals(payload=bytes, place=bytes)
cpdef bytes entry_header(Append append)
