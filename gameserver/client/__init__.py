"""Python SDK: a pure core (what to send, what a message means) and an aiohttp shell around it."""

from gameserver.client.client import Client
from gameserver.client.errors import (
    AnswerTimeout,
    ConnectionClosed,
    ConnectionLost,
    RoomLeft,
    ServerError,
    ServerUnreachable,
    error_from,
)
from gameserver.client.reconnect import ReconnectPolicy
from gameserver.client.room import CloseReason, Room
from gameserver.state import to_plain

__all__ = [
    "AnswerTimeout",
    "Client",
    "CloseReason",
    "ConnectionClosed",
    "ConnectionLost",
    "ReconnectPolicy",
    "Room",
    "RoomLeft",
    "ServerError",
    "ServerUnreachable",
    "error_from",
    "to_plain",
]
