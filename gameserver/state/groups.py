"""Groups of viewers: who an audience's name stands for. Membership is state: recorded, rolled back, in snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gameserver.errors import StateError
from gameserver.state.node import LogEntry, player_id


class Group:
    """A named set of player ids. Iterates in sorted order, so that a restored match walks it as before."""

    __slots__ = ("_frozen", "_log", "_members", "name")

    def __init__(self, name: str, log: list[LogEntry], members: Iterator[str] | tuple[str, ...] = ()) -> None:
        self.name = name
        self._log = log
        self._members: set[str] = set(members)
        self._frozen: frozenset[str] | None = None

    @property
    def members(self) -> frozenset[str]:
        """The ids of all members."""
        if self._frozen is None:
            self._frozen = frozenset(self._members)
        return self._frozen

    def add(self, player: Any) -> None:
        """Lets a player see what this group sees; it is sent to them with the next flush."""
        self._change(self._id(player), True)

    def discard(self, player: Any) -> None:
        """Takes a player out, if in; what only this group sees is dropped on their side with the next flush."""
        self._change(self._id(player), False)

    def remove(self, player: Any) -> None:
        """Takes a player out. Raises KeyError if they are not in."""
        if player not in self:
            raise KeyError(self._id(player))
        self.discard(player)

    def clear(self) -> None:
        """Takes everyone out."""
        for member in self:
            self._change(member, False)

    def _change(self, member: str, present: bool) -> None:
        if (member in self._members) == present:
            return
        self._log.append((self, member, not present))
        self._put(member, present)

    def _put(self, member: str, present: bool) -> None:
        self._frozen = None
        if present:
            self._members.add(member)
        else:
            self._members.discard(member)

    def _undo(self, entry: LogEntry) -> None:
        self._put(entry[1], entry[2])

    @staticmethod
    def _id(player: Any) -> str:
        found = player_id(player)
        if found is None:
            raise StateError("a group's members are players or players' ids, not None")
        return found

    def __contains__(self, player: Any) -> bool:
        return self._id(player) in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Group({self.name!r}, {sorted(self._members)!r})"
