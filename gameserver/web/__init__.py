"""The web edge: WebSocket endpoint, HTTP API, health and metrics."""

from gameserver.web.admin import Admin
from gameserver.web.connection import Connection
from gameserver.web.connections import Connections
from gameserver.web.context import Authenticator, SocketLimits
from gameserver.web.operations import Operations
from gameserver.web.presence import PresenceRoutes
from gameserver.web.routes import Api, Route
from gameserver.web.server import WebServer

__all__ = [
    "Admin",
    "Api",
    "Authenticator",
    "Connection",
    "Connections",
    "Operations",
    "PresenceRoutes",
    "Route",
    "SocketLimits",
    "WebServer",
]
