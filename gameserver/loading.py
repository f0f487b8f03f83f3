"""Finding game classes in files and modules named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from gameserver.errors import ConfigError
from gameserver.match import Game, compile_game

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

EXAMPLES = "gameserver.examples"


def load_games(names: Iterable[str]) -> list[type[Game]]:
    """The games of these files (`my_game.py`, `folder/my_game.py`) and modules (`package.module`), each once.

    Raises `ConfigError` that says where and why when one cannot be loaded or holds no game.
    """
    games: list[type[Game]] = []
    for name in names:
        for game in games_in(load_module(name), name):
            if game not in games:
                games.append(game)
    return games


def load_module(name: str) -> ModuleType:
    """A file by its path, or a module by its name."""
    path = Path(name)
    if path.suffix == ".py" or path.exists():
        return _load_file(path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            hint = f" Did you mean {name}.py?" if Path(f"{name}.py").exists() else ""
            raise ConfigError(
                f"There is no module {name!r}.{hint} Name a file (my_game.py) or a module (package.module)."
            ) from None
        raise _unloadable(name, error) from None
    except Exception as error:  # noqa: BLE001 - an author's module may raise anything while it is imported
        raise _unloadable(name, error) from None
    finally:
        sys.path.remove(str(Path.cwd()))


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        what = "is a folder: name the file in it" if path.is_dir() else "does not exist"
        raise ConfigError(f"The game file {path} {what}.")
    name = path.stem if path.stem.isidentifier() else "game"
    if name in sys.modules or _is_elsewhere(name, path):
        name = f"game_{name}"  # a file called like a module of Python's must not take its place
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    # Its own folder comes first, as when Python runs a file: a game may be more than one file.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an author's module may raise anything while it is imported
        del sys.modules[name]
        raise _unloadable(str(path), error) from None
    return module


def _is_elsewhere(name: str, path: Path) -> bool:
    """Is there another module of this name?"""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and (spec.origin is None or Path(spec.origin).resolve() != path.resolve())


def games_in(module: ModuleType, shown: str) -> list[type[Game]]:
    """Its `GAMES`, or the game classes that it defines (a package: those of its modules too)."""
    listed = getattr(module, "GAMES", None)
    if listed is not None:
        wrong = [entry for entry in listed if not (isinstance(entry, type) and issubclass(entry, Game))]
        if wrong:
            raise ConfigError(f"{shown}: GAMES holds {wrong[0]!r}, which is no Game class.")
        found = list(listed)
    else:
        inside = (module.__name__, f"{module.__name__}.")
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Game)
            and (value.__module__ == inside[0] or value.__module__.startswith(inside[1]))
        ]
        # A class that others are derived from is their common part, unless it can be played itself.
        bases = {base for value in found for base in value.__mro__[1:]}
        found = [value for value in found if value not in bases]
    if not found:
        raise ConfigError(f"{shown} defines no game: a game is a class that inherits from gameserver.Game.")
    for game in found:
        try:
            compile_game(game)
        except TypeError as error:
            raise ConfigError(f"{shown}: the game {game.__name__} cannot be used: {error}") from None
    return found


def _unloadable(name: str, error: BaseException) -> ConfigError:
    """Where in the author's code it failed, without our own frames around it."""
    where = ""
    if isinstance(error, SyntaxError):
        where = f" (line {error.lineno})" if error.lineno else ""
        text = error.msg
    else:
        text = str(error)
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "importlib" not in frame.filename and not frame.filename.startswith(str(Path(__file__).parent))
        ]
        if frames:
            where = f" ({frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line})"
    return ConfigError(f"{name} cannot be loaded: {type(error).__name__}: {text}{where}")
