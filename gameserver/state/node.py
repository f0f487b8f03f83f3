"""What every part of the tree is: a node, and what may be stored in one.

Writes are recorded in one log, the tree's: `(node, where, old, …)`. The same entries undo a failed transaction (read
backwards) and tell the flush what changed (read forwards): there are no dirty flags.
A node that is not in a tree has no log and records nothing. Of the numbers that lie within an entity (see `entity`) one
entry for a transaction has all, as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gameserver.errors import StateError

if TYPE_CHECKING:
    from gameserver.state.tree import Tree

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
DEPTH_MAX: Final = 24
"""Deepest nesting of nodes: bounds recursion here and in every client."""

Scope = frozenset[str]
"""Audience names that must all admit a viewer: what it takes to see a node. Empty: everyone."""

EVERYONE: Final[Scope] = frozenset()
LogEntry = tuple[Any, ...]
Where = Any
"""A place within a parent: an entity's `Field`, a map's key, None in a list (positions shift)."""

NEW_SLOTS: Final[dict[str, Any]] = {
    "_tree": None, "_log": None, "_id": 0, "_parent": None, "_where": None, "_scope": EVERYONE, "_audience": None,
}  # fmt: skip
"""The private slots of a node, and what a new one, in no tree, has in them."""


def put(node: Node, name: str, value: Any) -> None:
    """Sets a private slot or a property of any node, past the checks that are for authors."""
    getattr(type(node), name).__set__(node, value)


class Missing:
    """Stands for "no such key" in log entries."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


class AudienceChange:
    """Stands first in log entries about a node's own audience or owner: `(which, node, old)`."""

    def __init__(self, slot: str) -> None:
        self.slot = slot

    def _undo(self, entry: LogEntry) -> None:
        put(entry[1], self.slot, entry[2])


AUDIENCE: Final = AudienceChange("_audience")
OWNER: Final = AudienceChange("_owner")


class Node:
    """Base of `Entity`, `Map` and `List`. One parent, an id within its tree, optionally an audience of its own."""

    __slots__ = ()

    if TYPE_CHECKING:
        _tree: Tree | None
        _log: list[LogEntry] | None
        _id: int
        _parent: Node | None
        _where: Where  # its place in the parent: an entity's field, a map's key, None in a list
        _scope: Scope | None  # who sees it; None: nobody but the server
        _audience: str | None

    @property
    def audience(self) -> str | None:
        """Who may see it and all that is in it: a group's name, "player:<id>", or None for whoever sees its parent."""
        return self._audience

    @audience.setter
    def audience(self, value: Any) -> None:
        set_audience(self, AUDIENCE, audience_name(value))

    def _undo(self, entry: LogEntry) -> None:
        raise NotImplementedError

    def _children(self) -> list[tuple[Node, Where]]:
        raise NotImplementedError


def init_slots(node: Node) -> None:
    """Puts a new node's private slots to "not in a tree"."""
    for name, value in NEW_SLOTS.items():
        setattr(node, name, value)


def audience_name(audience: Any) -> str | None:
    """The name of an audience given as a name, a group or a player."""
    if audience is None or isinstance(audience, str):
        return audience or None
    name = getattr(audience, "name", None) if not hasattr(audience, "id") else f"player:{audience.id}"
    if not isinstance(name, str):
        raise StateError(f"an audience is a group's name, a group or a player, not {audience!r}")
    return name


def player_id(player: Any) -> str | None:
    """The id of a player given as such or as an id."""
    if player is None or isinstance(player, str):
        return player
    found = getattr(player, "id", None)
    if not isinstance(found, str):
        raise StateError(f"an owner is a player or a player's id, not {player!r}")
    return found


def set_audience(node: Node, marker: AudienceChange, value: str | None) -> None:
    """Changes a node's audience or owner, recorded."""
    old = getattr(node, marker.slot)
    if old == value:
        return
    if node._log is not None and node._tree is not None:
        if node is node._tree.root:
            raise StateError("the game itself is for everyone: give audiences to the entities and containers in it")
        node._log.append((marker, node, old))
        node._tree.relink = True
    put(node, marker.slot, value)
