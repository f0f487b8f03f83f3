"""The games this server knows, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gameserver.errors import ConfigError, GameNotFound
from gameserver.match import compile_game

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gameserver.match import Game


class GameRegistry:
    """Name → game class. Two classes of one name are refused: which of them would a snapshot belong to?"""

    def __init__(self, games: Iterable[type[Game]] = ()) -> None:
        self._games: dict[str, type[Game]] = {}
        for game in games:
            self.add(game)

    def add(self, game: type[Game]) -> None:
        """Register a class under its name."""
        try:
            name = compile_game(game).name
        except TypeError as error:
            raise ConfigError(f"The game {game.__module__}.{game.__qualname__} cannot be used: {error}") from None
        known = self._games.get(name)
        if known is not None and known is not game:
            raise ConfigError(
                f"Two games are called {name!r}: {known.__module__}.{known.__qualname__} and "
                f"{game.__module__}.{game.__qualname__}. Set `name = ...` on one of them."
            )
        self._games[name] = game

    def get(self, name: str) -> type[Game]:
        """The class of that name; raises `GameNotFound`, naming what there is."""
        try:
            return self._games[name]
        except KeyError:
            raise GameNotFound(f"There is no game {name!r} here; there is: {', '.join(self) or 'none'}.") from None

    def __contains__(self, name: object) -> bool:
        return name in self._games

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._games))

    def __len__(self) -> int:
        return len(self._games)
