cimport cython
from gameserver.state.changes cimport Changes
from gameserver.state.pack cimport Packer, array_head
from gameserver.state.tree cimport Tree

@cython.locals(first=list, later=list)
cpdef bytes journal_ops(Tree tree, Changes changes, Packer rows)
