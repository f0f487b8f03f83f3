"""`Grid`: a map cut into square cells, each cell a group, so that everyone receives only what is near."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any, Final

from gameserver.errors import StateError
from gameserver.match.player import Player
from gameserver.state import SPECTATORS, Entity, Group, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

RADIUS_MAX: Final = 16


class Grid:
    """`place` puts an entity into the cell it stands on; `follow` keeps a player in the groups of the cells around.

    Call both whenever something moved: they cost nothing while the cell stays the same.
    """

    __slots__ = ("_before", "_centres", "_tree", "cell_size", "name", "spectators")

    def __init__(self, tree: Tree, name: str, cell_size: float, spectators: bool) -> None:
        if not cell_size > 0:
            raise StateError(f"a grid's cell_size must be greater than 0, not {cell_size!r}")
        self.name = name
        self.cell_size = float(cell_size)
        self.spectators = spectators
        """Whether those who only watch see all cells."""
        self._tree = tree
        self._centres: dict[str, tuple[int, int, int]] = {}
        """Player id → the cell they are in and how many around it they see."""
        self._before: dict[str, tuple[int, int, int] | None] | None = None
        """What was changed since `take_changes`, as it was then. None: the grid itself is new."""

    def cell(self, x: float, y: float) -> Group:
        """The group of the cell at a place: an audience for entities and events."""
        return self._group(floor(x / self.cell_size), floor(y / self.cell_size))

    def place(self, entity: Entity, x: float, y: float) -> None:
        """Show an entity to those who see the cell at this place."""
        group = self.cell(x, y)
        if entity.audience != group.name:
            if self.spectators:
                group.add(SPECTATORS)
            entity.audience = group.name

    def follow(self, player: Player | str, x: float, y: float, radius: int = 1) -> None:
        """Let a player see the cell at this place and `radius` cells around it, and no others of this grid."""
        if not 0 <= radius <= RADIUS_MAX:
            raise StateError(f"a grid's radius is 0 to {RADIUS_MAX} cells, not {radius!r}")
        centre = floor(x / self.cell_size), floor(y / self.cell_size), radius
        self._move(player if isinstance(player, str) else player.id, centre)

    def unfollow(self, player: Player | str) -> None:
        """Let a player see no cell of this grid."""
        self._move(player if isinstance(player, str) else player.id, None)

    def _move(self, player_id: str, centre: tuple[int, int, int] | None) -> None:
        old = self._centres.get(player_id)
        if old == centre:
            return
        before = dict.fromkeys(_around(old))
        after = dict.fromkeys(_around(centre))
        for cell in before:
            if cell not in after:
                self._group(*cell).discard(player_id)
        for cell in after:
            if cell not in before:
                self._group(*cell).add(player_id)
        self._put(player_id, centre)
        self._tree.record(lambda: self._put(player_id, old))

    def _put(self, player_id: str, centre: tuple[int, int, int] | None) -> None:
        if self._before is not None:
            self._before.setdefault(player_id, self._centres.get(player_id))
        if centre is None:
            self._centres.pop(player_id, None)
        else:
            self._centres[player_id] = centre

    def _group(self, column: int, row: int) -> Group:
        return self._tree.group(f"{self.name}:{column}:{row}")

    def dump(self) -> list[Any]:
        """Plain data for the snapshot; memberships are in the tree's."""
        centres = [[player_id, *centre] for player_id, centre in sorted(self._centres.items())]
        return [self.name, self.cell_size, self.spectators, centres]

    def take_changes(self) -> list[Any] | None:
        """Like `dump`, for the players who moved since the last call; null for those who left. None: nobody did."""
        before, self._before = self._before, {}
        if before is None:
            return self.dump()
        moved = [player_id for player_id, old in sorted(before.items()) if self._centres.get(player_id) != old]
        if not moved:
            return None
        rows = [[player_id, *(self._centres.get(player_id) or ())] for player_id in moved]
        return [self.name, self.cell_size, self.spectators, rows]

    def apply_changes(self, changes: list[Any]) -> None:
        """Repeats what `take_changes` told."""
        for player_id, *centre in changes[3]:
            self._put(player_id, (centre[0], centre[1], centre[2]) if centre else None)

    @classmethod
    def load(cls, tree: Tree, dumped: list[Any]) -> Grid:
        """The inverse of `dump`."""
        name, cell_size, spectators, centres = dumped
        grid = cls(tree, name, cell_size, spectators)
        grid._centres = {row[0]: (row[1], row[2], row[3]) for row in centres}
        return grid


def _around(centre: tuple[int, int, int] | None) -> Iterator[tuple[int, int]]:
    if centre is not None:
        column, row, radius = centre
        for x in range(column - radius, column + radius + 1):
            for y in range(row - radius, row + radius + 1):
                yield x, y
