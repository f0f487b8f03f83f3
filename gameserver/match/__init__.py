"""The match engine: `Game` (what authors subclass) and `Match` (what runs it). Pure: time and seeds are arguments."""

from gameserver.match.actions import ActionSpec, action
from gameserver.match.checks import GameSpec, compile_game, game_name
from gameserver.match.core import RUNNING, MatchCounts
from gameserver.match.engine import Match
from gameserver.match.game import Game
from gameserver.match.grid import Grid
from gameserver.match.journal import decode_records, encode_records
from gameserver.match.output import MatchOutput
from gameserver.match.player import Player, Session
from gameserver.match.queued import Args
from gameserver.match.values import PUBLISH, Ack, Effect, EventBatch, MatchLimits, Priority, User

__all__ = [
    "PUBLISH",
    "RUNNING",
    "Ack",
    "ActionSpec",
    "Args",
    "Effect",
    "EventBatch",
    "Game",
    "GameSpec",
    "Grid",
    "Match",
    "MatchCounts",
    "MatchLimits",
    "MatchOutput",
    "Player",
    "Priority",
    "Session",
    "User",
    "action",
    "compile_game",
    "decode_records",
    "encode_records",
    "game_name",
]
