"""What all connections and requests of a server share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gameserver.access import Claims, verify_token
from gameserver.errors import AuthenticationRequired
from gameserver.protocol import Limits
from gameserver.session import ConnectionPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.config import AuthSettings, Settings


class Authenticator:
    """Tokens to claims."""

    def __init__(self, settings: AuthSettings, wall: Callable[[], float] = time.time) -> None:
        self._keys = [key.get_secret_value() for key in (settings.secret, *settings.previous_secrets)]
        self._algorithms = (settings.algorithm,)
        self._wall = wall

    def claims(self, token: str | None) -> Claims:
        """Who the token belongs to; raises AuthenticationRequired without one, TokenInvalid with a bad one."""
        if not token:
            raise AuthenticationRequired
        return verify_token(token, self._keys, now=self._wall(), algorithms=self._algorithms)


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What connections may use, from the settings."""

    connections_max: int = 10_000
    heartbeat_seconds: float = 20.0
    send_buffer_bytes_max: int = 262_144
    close_seconds: float = 2.0
    policy: ConnectionPolicy = field(default_factory=ConnectionPolicy)
    messages: Limits = field(default_factory=Limits)

    @classmethod
    def from_settings(cls, settings: Settings) -> SocketLimits:
        """The limits section in the shape that connections use."""
        limits = settings.limits
        return cls(
            connections_max=limits.connections_max,
            heartbeat_seconds=limits.heartbeat_seconds,
            send_buffer_bytes_max=limits.send_buffer_bytes_max,
            policy=ConnectionPolicy(
                hello_timeout_seconds=limits.hello_timeout_seconds,
                messages_per_second=limits.messages_per_second,
                messages_burst=limits.messages_burst,
                channels_max=limits.channels_max,
            ),
            messages=Limits(
                message_bytes_max=limits.message_bytes_max,
                depth_max=limits.depth_max,
                items_max=limits.items_max,
                string_bytes_max=limits.string_bytes_max,
            ),
        )
