cimport cython
from gameserver.storage.appends cimport Append

@cython.locals(payload=bytes, place=bytes)
cpdef bytes encode_entry(Append append)
