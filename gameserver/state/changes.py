"""What a flush starts from: the log of a flush, folded to one entry per place with the value it had before."""

from __future__ import annotations

from typing import Any

from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity
from gameserver.state.groups import Group
from gameserver.state.node import OWNER, AudienceChange, LogEntry, Node

Splice = tuple[int, list[Any], list[Any]]
"""(start, removed, inserted)"""


class Changes:
    """The changed places of nodes that were there at the last flush and still are, in order of first change."""

    __slots__ = ("audiences", "entities", "lists", "maps", "members", "owners", "reinserted")

    def __init__(self, log: list[LogEntry], flushed_id: int) -> None:
        self.entities: dict[int, tuple[Entity, dict[Any, Any]]] = {}
        self.maps: dict[int, tuple[Map[Any, Any], dict[Any, Any]]] = {}
        self.lists: dict[int, tuple[List[Any], list[Splice]]] = {}
        self.owners: dict[int, tuple[Entity, str | None]] = {}
        self.reinserted: dict[int, set[Any]] = {}  # keys of maps that were taken out at some time
        self.audiences: dict[int, Node] = {}  # nodes whose own audience or owner was set
        self.members: dict[str, dict[str, bool]] = {}  # group → viewer → was a member
        entities = self.entities
        node: Any = None
        fields: dict[Any, Any] | None = None
        for entry in log:
            if entry[0] is not node:  # writes to one entity mostly come together
                node = entry[0]
                fields = None
                if isinstance(node, Entity) and node._id <= flushed_id and node._tree is not None:
                    # Others are not looked at: a new node is sent whole, a gone one not at all.
                    known = entities.get(node._id)
                    if known is None:
                        known = entities[node._id] = (node, {})
                    fields = known[1]
            if fields is None:
                if not isinstance(node, Entity):
                    self._fold(entry, flushed_id)
                continue
            what = entry[1]
            if what.__class__ is AudienceChange:
                self.audiences[node._id] = node
                if what is OWNER:
                    self.owners.setdefault(node._id, (node, entry[2]))
            elif what not in fields:
                fields[what] = entry[2]

    def _fold(self, entry: LogEntry, flushed_id: int) -> None:
        node = entry[0]
        if isinstance(node, Group):
            self.members.setdefault(node.name, {}).setdefault(entry[1], entry[2])
            return
        if not isinstance(node, Node) or node._id > flushed_id or node._tree is None:
            return
        if entry[1].__class__ is AudienceChange:
            self.audiences[node._id] = node
        elif isinstance(node, Map):
            self.maps.setdefault(node._id, (node, {}))[1].setdefault(entry[1], entry[2])
            if entry[3] is not None:
                self.reinserted.setdefault(node._id, set()).add(entry[1])
        elif isinstance(node, List):
            self.lists.setdefault(node._id, (node, []))[1].append((entry[1], entry[2], entry[3]))
