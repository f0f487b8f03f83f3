"""What a game author imports."""

from importlib.metadata import PackageNotFoundError, version

from gameserver.errors import ActionRefused, GameServerError, JoinRefused, StateError
from gameserver.match import Game, Grid, Player, Priority, User, action
from gameserver.state import Entity, Group, List, Map, owner_only, quantized, server_only

try:
    __version__ = version("gameserver")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "ActionRefused",
    "Entity",
    "Game",
    "GameServerError",
    "Grid",
    "Group",
    "JoinRefused",
    "List",
    "Map",
    "Player",
    "Priority",
    "StateError",
    "User",
    "__version__",
    "action",
    "owner_only",
    "quantized",
    "server_only",
]
