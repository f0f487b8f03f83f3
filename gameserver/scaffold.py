"""`gameserver new`: a game that runs, and a test of it that passes, to start from."""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING

from gameserver.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GAME = '''"""{title}: say in one line what players do here."""

from gameserver import ActionRefused, Entity, Game, Map, Player, Priority, action

GOAL = 10


class Runner(Entity):
    """One player's piece. Annotated attributes are state: tracked, sent to players, saved."""

    name: str = ""
    steps: int = 0


class {class_name}(Game):
    """A race of ten steps, to be replaced by your own rules."""

    players_max = 8

    runners: Map[str, Runner]  # player id -> runner
    winner: str = ""

    def on_join(self, player: Player) -> None:
        self.runners[player.id] = Runner(owner=player, name=player.name)

    def on_leave(self, player: Player, reason: str) -> None:
        del self.runners[player.id]

    @action
    def step(self, player: Player, count: int = 1) -> int:
        """What clients call: `await room.action("step", count=2)`. The annotations are checked before it runs."""
        if self.winner:
            raise ActionRefused("the race is over")
        if not 1 <= count <= 3:
            raise ActionRefused("between 1 and 3 steps at a time")
        runner = self.runners[player.id]
        runner.steps += count
        if runner.steps >= GOAL:
            self.winner = player.id
            self.emit("won", {{"by": player.id}}, priority=Priority.HIGH)
        return runner.steps
'''

TEST = '''"""Tests of {title}: the game on a virtual clock with fake players, without sockets and without waiting."""

import pytest
from {name} import GOAL, {class_name}

from gameserver.errors import ActionInvalid, ActionRefused
from gameserver.testing import MatchTester


def test_the_first_to_the_goal_wins() -> None:
    tester = MatchTester({class_name})
    anne, bob = tester.join("anne"), tester.join("bob")
    assert anne.act("step", count=2) == 2
    while not tester.game.winner:
        bob.act("step", count=3)
    assert tester.game.winner == "bob"
    assert anne.view["runners"]["bob"]["steps"] >= GOAL  # what Anne sees of Bob
    assert anne.events == [("won", {{"by": "bob"}})]


def test_wrong_moves_change_nothing() -> None:
    tester = MatchTester({class_name})
    anne = tester.join("anne")
    with pytest.raises(ActionRefused):
        anne.act("step", count=100)
    with pytest.raises(ActionInvalid):
        anne.act("step", count="far")
    assert tester.game.runners["anne"].steps == 0


def test_a_race_survives_a_restart_of_the_server() -> None:
    tester = MatchTester({class_name})
    anne = tester.join("anne")
    anne.act("step", count=3)
    tester.restart()
    assert anne.act("step", count=1) == 4
'''


def write_game(name: str, folder: Path) -> tuple[Path, Path]:
    """Write both files; raises `ConfigError` when the name will not do or something is there already."""
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip()).replace("-", "_").replace(" ", "_").lower()
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", module) or keyword.iskeyword(module):
        raise ConfigError(f"{name!r} cannot be a game's name: use letters, digits and _, a letter first, like my_game.")
    if module in ("gameserver", "test"):
        raise ConfigError(f"{module!r} is taken by a module of that name: choose another one.")
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}.")
    words = {
        "name": module,
        "title": module.replace("_", " ").capitalize(),
        "class_name": "".join(word.capitalize() for word in module.split("_")),
    }
    game, test = folder / f"{module}.py", folder / f"test_{module}.py"
    for path in (game, test):
        if path.exists():
            raise ConfigError(f"{path} exists already; nothing was written.")
    try:
        game.write_text(GAME.format(**words), encoding="utf-8")
        test.write_text(TEST.format(**words), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write into {folder}: {error.strerror}.") from None
    return game, test
