"""The tracked state of a match: what authors declare, what changed, who may see it, and the copy on the other side."""

from gameserver.errors import StateError
from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity, Visibility, entity_classes, fields_of, owner_only, quantized, server_only
from gameserver.state.groups import Group
from gameserver.state.mirror import Mirror, MirrorEntity, MirrorList, MirrorMap, Path, to_plain
from gameserver.state.node import Node
from gameserver.state.patch import EMPTY_OPS, EMPTY_PATCH, Part, Patch
from gameserver.state.tree import SPECTATORS, Mark, Tree

__all__ = [
    "EMPTY_OPS",
    "EMPTY_PATCH",
    "SPECTATORS",
    "Entity",
    "Group",
    "List",
    "Map",
    "Mark",
    "Mirror",
    "MirrorEntity",
    "MirrorList",
    "MirrorMap",
    "Node",
    "Part",
    "Patch",
    "Path",
    "StateError",
    "Tree",
    "Visibility",
    "entity_classes",
    "fields_of",
    "owner_only",
    "quantized",
    "server_only",
    "to_plain",
]
