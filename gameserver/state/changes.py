"""What a flush starts from: the log of a flush, folded to one entry per place (of entities: to one per entity)."""

from __future__ import annotations

from typing import Any, Final

from gameserver.state.containers import List, Map
from gameserver.state.entity import Entity, Tracked, begin_period
from gameserver.state.groups import Group
from gameserver.state.node import OWNER, AudienceChange, LogEntry, Node

Splice = tuple[int, list[Any], list[Any]]
"""(start, removed, inserted)"""
COMPILED: Final = not __file__.endswith(".py")
_NONE: Final[dict[Any, Any]] = {}
"""Stands for each of the maps that nearly every flush has nothing for; never written to."""


class Changes:
    """What changed of nodes that were there at the last flush and still are, in order of first change."""

    __slots__ = ("audiences", "entities", "lists", "maps", "members", "others", "owners", "reinserted")

    def __init__(self, log: list[LogEntry], flushed_id: int) -> None:
        self.entities: list[Entity] = []  # they know themselves what their fields were
        self.maps: dict[int, tuple[Map[Any, Any], dict[Any, Any]]] = _NONE
        self.lists: dict[int, tuple[List[Any], list[Splice]]] = _NONE
        self.owners: dict[int, tuple[Entity, str | None]] = _NONE
        self.reinserted: dict[int, set[Any]] = _NONE  # keys of maps that were taken out at some time
        self.audiences: dict[int, Node] = _NONE  # nodes whose own audience or owner was set
        self.members: dict[str, dict[str, bool]] = _NONE  # group → viewer → was a member
        self.others = False  # did anything but fields of entities change?
        self._fold_all(log, flushed_id)

    def _fold_all(self, log: list[LogEntry], flushed_id: int) -> None:
        entities, fold = self.entities, begin_period()
        found: set[int] | None = None if COMPILED else set()
        last: Any = None
        for entry in log:
            node = entry[0]
            if node is last:  # writes to one entity mostly come together
                continue
            if isinstance(node, Tracked):
                last = entity = node
                # Others are not looked at: a new node is sent whole, a gone one not at all.
                if entity._id > flushed_id or entity._tree is None:
                    continue
                if found is not None:
                    if entity._id not in found:
                        found.add(entity._id)
                        entities.append(entity)  # type: ignore[arg-type]
                elif entity._folded != fold:
                    entity._folded = fold
                    entities.append(entity)  # type: ignore[arg-type]
            else:
                if not self.others:
                    self.others = True
                    self.maps, self.lists, self.owners = {}, {}, {}
                    self.reinserted, self.audiences, self.members = {}, {}, {}
                self._fold(entry, flushed_id)

    def _fold(self, entry: LogEntry, flushed_id: int) -> None:
        node = entry[0]
        if isinstance(node, Group):
            self.members.setdefault(node.name, {}).setdefault(entry[1], entry[2])
        elif isinstance(node, AudienceChange):
            self._fold_audience(node, entry[1], entry[2], flushed_id)
        elif not isinstance(node, Node) or node._id > flushed_id or node._tree is None:
            return
        elif isinstance(node, Map):
            self.maps.setdefault(node._id, (node, {}))[1].setdefault(entry[1], entry[2])
            if entry[3] is not None:
                self.reinserted.setdefault(node._id, set()).add(entry[1])
        elif isinstance(node, List):
            self.lists.setdefault(node._id, (node, []))[1].append((entry[1], entry[2], entry[3]))

    def _fold_audience(self, what: AudienceChange, node: Node, old: str | None, flushed_id: int) -> None:
        if node._id > flushed_id or node._tree is None:
            return
        self.audiences[node._id] = node
        if what is OWNER and isinstance(node, Entity):
            self.owners.setdefault(node._id, (node, old))
