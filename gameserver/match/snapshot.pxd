cimport cython
from gameserver.match.player cimport Player, Session
from gameserver.match.queued cimport Queued

@cython.locals(session=Session)
cpdef list _dump_player(match, Player player)
cpdef list _dump_queued(Queued item)
