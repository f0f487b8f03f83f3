"""Commands that run to their end: what they print, and that mistakes are one line with exit code 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gameserver import __version__
from gameserver.access import Role, verify_token
from gameserver.config import DEVELOPMENT_SECRET
from gameserver.errors import ConfigError
from gameserver.loading import load_games
from gameserver.scaffold import write_game
from tests.cli.kit import command

GAME = "from gameserver import Game\n\nclass {name}(Game):\n    pass\n"


def test_version_and_help(tmp_path: Path) -> None:
    assert command("version", folder=tmp_path).stdout == f"gameserver {__version__}\n"
    for args in ([], ["run"], ["new"], ["token"], ["matches"], ["matches", "list"], ["matches", "show"]):
        shown = command(*args, "--help", folder=tmp_path)
        assert shown.returncode == 0
        assert "Usage: " in shown.stdout


def test_token(tmp_path: Path) -> None:
    made = command("token", "--user", "alice", "--role", "admin", "--name", "Alice", folder=tmp_path)
    claims = verify_token(made.stdout.strip(), [DEVELOPMENT_SECRET], now=0.0, leeway_seconds=1e12)
    assert (claims.user_id, claims.name, claims.role) == ("alice", "Alice", Role.ADMIN)


MISTAKES = [
    (["run", "nope.py"], {}, "The game file nope.py does not exist"),
    (["run", "no.such.module"], {}, "There is no module 'no.such.module'"),
    (["run", "--config", "nope.toml"], {}, "nope.toml cannot be read"),
    (["run"], {"GAMESERVER__SERVER__PORTT": "1"}, "did you mean server.port?"),
    (["run"], {"GAMESERVER__SERVER__PORT": "many"}, "server.port = 'many'"),
    (["run"], {"GAMESERVER__SERVER__MODE": "production"}, "production mode needs a secret"),
    (["token", "--user", "no spaces"], {}, "a user id has 1 to 64 characters"),
    (["token", "--user", "a", "--ttl", "-5"], {}, "--ttl"),
    (["token", "--user", "a", "--role", "king"], {}, "'king' is not one of"),
    (["matches", "--url", "http://127.0.0.1:9"], {}, "No game server answers at http://127.0.0.1:9"),
    (["matches", "--url", "file:///etc/passwd"], {}, "--url: expected an address"),
    (["new", "7up"], {}, "cannot be a game's name"),
    (["new", "class"], {}, "cannot be a game's name"),
    (["new", "ok", "--dir", "missing"], {}, "There is no folder missing"),
    (["dance"], {}, "No such command 'dance'"),
]


@pytest.mark.parametrize(("args", "values", "told"), MISTAKES)
def test_mistakes_are_told_in_a_line(tmp_path: Path, args: list[str], values: dict[str, str], told: str) -> None:
    done = command(*args, folder=tmp_path, **values)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_new_writes_a_game_whose_test_passes(tmp_path: Path) -> None:
    done = command("new", "raceTrack", folder=tmp_path)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["race_track.py", "test_race_track.py"]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "3 passed" in tested.stdout, tested.stdout
    again = command("new", "raceTrack", folder=tmp_path)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)


# --- loading ----------------------------------------------------------------------------------------------------------
def test_a_file_with_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "parts_of_mine.py").write_text("GREETING = 'hello'\n")
    (tmp_path / "game_of_mine.py").write_text("from parts_of_mine import GREETING\n" + GAME.format(name="Mine"))
    (game,) = load_games([str(tmp_path / "game_of_mine.py")])
    assert game.__name__ == "Mine"


def test_a_file_named_like_a_module_of_pythons(tmp_path: Path) -> None:
    """It is loaded, and does not take that module's place."""
    (tmp_path / "random.py").write_text(GAME.format(name="Luck"))
    assert [game.__name__ for game in load_games([str(tmp_path / "random.py")])] == ["Luck"]
    import random

    assert hasattr(random, "randint")


def test_only_games_defined_there_count_and_bases_do_not(tmp_path: Path) -> None:
    (tmp_path / "several.py").write_text(
        "from gameserver.examples import Arena\n"
        + GAME.format(name="Common")
        + "class One(Common):\n    pass\n\nclass Two(Common):\n    pass\n"
    )
    assert sorted(game.__name__ for game in load_games([str(tmp_path / "several.py")])) == ["One", "Two"]


def test_examples_are_a_module() -> None:
    assert {game.__name__ for game in load_games(["gameserver.examples"])} == {"Arena", "Battleship", "Chatroom"}


UNLOADABLE = [
    ("x = 1 / 0\n", "ZeroDivisionError: division by zero .*line 1: x = 1 / 0"),
    ("def broken(:\n", r"SyntaxError: .*line 1"),
    ("import no_such_module_anywhere\n", "ModuleNotFoundError"),
    ("raise SystemExit(3)\n", "SystemExit"),
    ("x = 1\n", "defines no game"),
    ("GAMES = [1]\n", "GAMES holds 1"),
    (GAME.format(name="Bad").replace("pass", "score = 5"), "is not declared as state"),
]


@pytest.mark.parametrize(("text", "told"), UNLOADABLE)
def test_what_cannot_be_loaded_says_where(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "unloadable.py").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_games([str(tmp_path / "unloadable.py")])


def test_the_scaffold_refuses_names_that_would_break(tmp_path: Path) -> None:
    for name in ("", "gameserver", "a b!", "ünï", "x" * 80, "import"):
        with pytest.raises(ConfigError):
            write_game(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
