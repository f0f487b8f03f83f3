"""One journal entry on its way into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gameserver.storage.journal_ports import Token


class Append:
    """One journal entry: all that happened after version `base` up to `version`. Never changed.

    `base` may lie before what is stored (a snapshot ran ahead): the overlap was written under the same token.
    """

    __slots__ = ("base", "connected", "payload", "state_version", "token", "version")

    def __init__(
        self,
        token: Token,
        base: int,
        version: int,
        payload: bytes,
        state_version: int = 1,
        connected: int | None = None,
    ) -> None:
        self.token = token
        self.base = base
        self.version = version
        self.payload = payload
        self.state_version = state_version
        self.connected = connected
        """How many players are connected, for `owned`; None: as before."""
