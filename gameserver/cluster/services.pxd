from gameserver.cluster.fanout cimport Fanout
from gameserver.cluster.wakes cimport Wakes

cdef class Services:
    cdef public Fanout fanout
    cdef public Wakes wakes
    cdef public long long window
    cdef public object clock, effects, gate, keeper, meters, new_match_id, new_seed, new_session_id, perf, recent, valid
