"""What one client message may hold: every number has a limit, and past it one named error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

PROTOCOL_VERSION: Final = 1
"""The version a hello must name."""

SUBPROTOCOL: Final = "gameserver.v1"
"""The WebSocket subprotocol client and server agree on."""

# Part of the protocol itself, not settings: a client may rely on them.
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
"""Integers in payloads fit in signed 64 bits: every client language and every store can hold them."""
NUMBER_MAX: Final = 2**53 - 1
"""Sequence numbers and positions stay exact in a float64, which is what JavaScript has."""
REQUEST_MAX: Final = 2**32 - 1
CHANNEL_MAX: Final = 2**32 - 1
NAME_CHARS_MAX: Final = 128
TOKEN_CHARS_MAX: Final = 8192
NONCE_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits a server can set for what its clients send."""

    message_bytes_max: int = 65_536
    """A whole message; more is `message_too_large`."""
    depth_max: int = 16
    """Containers within containers, the message's own array counted; more is `message_too_deep`."""
    items_max: int = 4_096
    """Values in one payload, all levels together; more is `field_invalid`."""
    string_bytes_max: int = 16_384
    """One string (as UTF-8) or one binary value; more is `field_invalid`."""
    short_bytes_max: int = field(init=False)
    """What is no larger than this keeps to all of that but the depth, whatever is in it."""

    def __post_init__(self) -> None:
        short = min(self.message_bytes_max, self.items_max, self.string_bytes_max)
        object.__setattr__(self, "short_bytes_max", short)


DEFAULT_LIMITS: Final = Limits()
