"""Pings to those who are silent, and the end of those who do not answer: one sweep over all, and no timer for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gameserver.errors import HeartbeatLost

if TYPE_CHECKING:
    from collections.abc import Collection

    from gameserver.web.connection import Connection

SWEEPS: Final = 8  # in the time of one heartbeat: a ping is at most this part of it late
PATIENCE: Final = 1.5  # heartbeats of silence until a connection is given up


class Heartbeat:
    """Looks at all connections every now and then. A connection notes when it was last heard; that is all it does."""

    def __init__(self, connections: Collection[Connection], seconds: float) -> None:
        self._connections = connections
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep."""
        self._task = asyncio.create_task(self._run(), name="heartbeat")

    def stop(self) -> None:
        """No more sweeps."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        now, pause = asyncio.get_running_loop().time, self._seconds / SWEEPS
        while True:
            due = now() + pause
            await asyncio.sleep(pause)
            # After a stall of this process what its clients sent still waits to be read: nobody was silent.
            self.sweep(now(), forgive=now() - due > pause)

    def sweep(self, now: float, *, forgive: bool = False) -> None:
        """Ping those who were not heard for a heartbeat; give up those who do not answer (unless we were deaf)."""
        silent_since, lost_since = now - self._seconds, now - self._seconds * PATIENCE
        for connection in list(self._connections):
            if connection.heard_at > silent_since:
                continue
            if connection.pinged_at <= connection.heard_at:
                connection.ping(now)
            elif connection.heard_at <= lost_since and not forgive:
                connection.fail(HeartbeatLost())
