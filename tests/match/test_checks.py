"""Mistakes in a game class are told when it is defined, with what to write instead."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from gameserver import Entity, Game, Map, Player, StateError, action, server_only
from gameserver.errors import GameCodeError
from gameserver.match import compile_game, game_name
from gameserver.testing import MatchTester


def define(**body: Any) -> type[Game]:
    return type("Bad", (Game,), {"__module__": __name__, **body})


async def coroutine(self: Any, player: Any) -> None: ...


async def async_generator(self: Any, player: Any) -> Any:
    yield


def generator(self: Any, player: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"on_join": coroutine}, "Bad.on_join is a coroutine"),
        ({"fire": coroutine}, "Bad.fire is a coroutine"),
        ({"fire": async_generator}, "Bad.fire is a coroutine"),
        ({"on_join": generator}, "is a generator"),
        ({"on_join": lambda self: None}, r"must be `def on_join\(self, player\)`"),
        ({"on_leave": lambda self, player: None}, r"def on_leave\(self, player, reason\)"),
        ({"on_tick": 5}, "must be a method"),
        ({"on_jion": lambda self, player: None}, "did you mean on_join"),
        ({"on_join": action(lambda self, player: None)}, "players cannot call it too"),
        ({"__annotations__": {"players": int}}, "a game already has `players`"),
        ({"__annotations__": {"emit": int}}, "a game already has `emit`"),
        ({"__annotations__": {"owner": int}}, "a game already has `owner`"),
        ({"__annotations__": {"tick_hz": int}, "tick_hz": 20}, "is a setting"),
        ({"__annotations__": {"on_join": int}}, "a game already has `on_join`"),
        ({"emit": lambda self: None}, "a game already has `emit`"),
        ({"now": 5}, "a game already has `now`"),
        ({"score": 0}, r"annotate it \(`score: int = …`\)"),
        ({"names": []}, r"`names: list = …`"),
        ({"hidden": server_only(0)}, "needs a type"),
        ({"__init__": lambda self: None}, "on_create"),
        ({"tick_hz": -1}, "tick_hz must be a number of at least 0"),
        ({"tick_hz": "20"}, "tick_hz must be a number"),
        ({"players_max": 0}, "players_max must be an integer"),
        ({"players_max": True}, "players_max must be an integer"),
        ({"empty_seconds": -1}, "None for never"),
        ({"durability": "maybe"}, "one of async, strict, snapshot"),
        ({"name": "Bad Name"}, "name must be"),
        ({"state_version": 0}, "state_version must be"),
    ],
)
def test_mistakes(body, hint):
    with pytest.raises(TypeError, match=hint):
        define(**body)


def test_what_is_allowed():
    class Fine(Game):
        SIZE = 10
        limit: ClassVar[int] = 3
        empty_seconds = None
        score: int = 0

        class Inner(Entity):
            x: int = 0

        @property
        def double(self) -> int:
            return self.score * 2

        def on_turn_over(self) -> None: ...

    assert MatchTester(Fine).game.double == 0


def test_undeclared_attributes_cannot_be_set():
    class Careless(Game):
        ships: Map[str, Any]

        def on_create(self, options: dict[str, Any]) -> None:
            self.scores = {}

    with pytest.raises(AttributeError, match="no field 'scores': declare it"):
        MatchTester(Careless)


@pytest.mark.parametrize("name", ["now", "players", "id", "tick_hz", "_match"])
def test_the_api_cannot_be_assigned(name):
    class Plain(Game):
        x: int = 0

        @action
        def set(self, player: Player, name: str) -> None:
            setattr(self, name, 1)

    tester = MatchTester(Plain)
    with pytest.raises(GameCodeError) as caught:
        tester.join("a").act("set", name)
    assert isinstance(caught.value.__cause__, AttributeError)
    assert name in str(caught.value.__cause__)


def test_names():
    assert [game_name(define_named(n)) for n in ("Arena", "BattleShip", "HTTPGame", "Game2D", "X")] == [
        "arena",
        "battle_ship",
        "http_game",
        "game2_d",
        "x",
    ]

    class Named(Game):
        name = "something.else"

    assert compile_game(Named).name == "something.else"


def define_named(name: str) -> type[Game]:
    return type(name, (Game,), {"__module__": __name__})


def test_fields_of_types_that_are_no_state_are_refused():
    class Odd(Game):
        when: complex

    with pytest.raises(StateError, match=r"Odd\.when"):
        MatchTester(Odd)
