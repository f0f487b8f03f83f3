"""What connections count, message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gameserver.protocol import Action

if TYPE_CHECKING:
    from gameserver.protocol import ClientMessage


class SocketCounts:
    """What came in since the metrics were last read."""

    __slots__ = ("actions", "bytes", "others")

    def __init__(self) -> None:
        self.actions = 0
        self.bytes = 0
        self.others: dict[type[ClientMessage], int] = {}

    def other(self, kind: type[ClientMessage]) -> None:
        """A message came in that is no action."""
        self.others[kind] = self.others.get(kind, 0) + 1

    def reset(self) -> None:
        """They were read."""
        self.actions = self.bytes = 0
        self.others.clear()

    def messages(self) -> dict[type[ClientMessage], int]:
        """Messages by their kind."""
        return {Action: self.actions, **self.others}
