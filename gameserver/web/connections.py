"""All connections of this server: how many there may be, what they share, and how they are closed together."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from gameserver.errors import ConnectionLimitReached, GameServerError, ServerDraining, close_code_of, close_code_table
from gameserver.web.connection import Connection
from gameserver.web.counts import SocketCounts
from gameserver.web.heartbeat import Heartbeat
from gameserver.web.receiving import find_problem

if TYPE_CHECKING:
    from gameserver.access import Claims
    from gameserver.cluster import Host
    from gameserver.metrics import Metrics
    from gameserver.web.context import Authenticator, SocketLimits
    from gameserver.web.link import Link
    from gameserver.web.operations import Operations

log = structlog.get_logger("gameserver.web")


class Connections:
    """The open connections, and what each of them needs."""

    def __init__(
        self,
        host: Host,
        operations: Operations,
        authenticator: Authenticator,
        metrics: Metrics,
        limits: SocketLimits,
    ) -> None:
        self.host = host
        self.authenticator = authenticator
        self.metrics = metrics
        self.limits = limits
        self.counts = SocketCounts()
        self.now = asyncio.get_running_loop().time
        self.direct = False
        """Messages are taken directly: see `receiving`."""
        self._operations = operations
        self._open: set[Connection] = set()
        self._moved: set[str] = set()
        self._draining = False
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._heartbeat = Heartbeat(self._open, limits.heartbeat_seconds)

    async def start(self) -> None:
        """Before the first connection: find out how messages can be received here."""
        problem = await find_problem()
        self.direct = problem is None
        self.metrics.direct_receive.set(self.direct)
        if self.direct:
            self._heartbeat.start()
        else:  # it works, and costs more
            log.warning("direct_receive_unavailable", aiohttp=aiohttp.__version__, reason=problem)

    def stop(self) -> None:
        """After the last connection."""
        self._heartbeat.stop()

    def __len__(self) -> int:
        return len(self._open)

    def check_room(self) -> None:
        """Before the handshake: raises what the client is answered with instead."""
        if self._draining:
            self.metrics.connections_refused_total.labels("draining").inc()
            raise ServerDraining
        if len(self._open) >= self.limits.connections_max:
            self.metrics.connections_refused_total.labels("limit").inc()
            raise ConnectionLimitReached

    def open(self, transport: asyncio.Transport, link: Link) -> Connection:
        """After the handshake."""
        connection = Connection(secrets.token_hex(6), self, transport, link)
        self._open.add(connection)
        self._none_open.clear()
        self.metrics.connections_accepted_total.inc()
        if self._draining:
            connection.close(close_code_of(ServerDraining), ServerDraining().message)
        return connection

    def closed(self, connection: Connection, close_code: int | None = None) -> None:
        """The socket is gone, whoever closed it."""
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()
        connection.lost()
        self.moved(connection)
        code = connection.close_code or close_code or 1006
        self.metrics.connections_closed_total.labels(_code_label(code)).inc()
        log.debug("connection_closed", connection=connection.id, code=code)

    def greeted(self, connection: Connection) -> None:
        """A connection knows who it belongs to: note the player as seen, in the background."""
        self.moved(connection)
        if connection.user is not None:
            self._operations.seen(connection.user.id, connection.user.name)

    def moved(self, connection: Connection) -> None:
        """Who it belongs to, or which matches it carries a session of, is not what it was."""
        if connection.user is not None:
            self._moved.add(connection.user.id)

    def take_moved(self) -> dict[str, set[str] | None]:
        """The users who came, went or moved since the last time → the matches that they are in over these connections.

        None: the user is not connected here any more.
        """
        if not self._moved:
            return {}
        moved, self._moved = self._moved, set()
        found: dict[str, set[str] | None] = dict.fromkeys(moved)
        for connection in self._open:
            user = connection.user
            if user is not None and user.id in moved and connection.ending is None:
                match_ids = found[user.id]
                if match_ids is None:
                    match_ids = found[user.id] = set()
                match_ids.update(connection.match_ids())
        return found

    async def answer(self, claims: Claims, method: str, params: dict[str, Any]) -> Any:
        """A request that came over the socket."""
        return await self._operations.call(claims, method, params)

    def update_metrics(self) -> None:
        """Move what was counted since the last time into the metrics: once per scrape, not once per message."""
        metrics, counts = self.metrics, self.counts
        metrics.connections_open.set(len(self._open))
        for kind, count in counts.messages().items():
            metrics.messages_received_total.labels(kind.__name__.lower()).inc(count)
        metrics.bytes_received_total.inc(counts.bytes)
        counts.reset()

    async def close_all(self, error: GameServerError, seconds: float) -> None:
        """Close every connection at the same time with the error's code; who does not answer is cut off."""
        self._draining = True
        if not self._open:
            return
        log.info("connections_closing", count=len(self._open), code=close_code_of(error))
        code, text = close_code_of(error), error.message
        endings = [connection.close(code, text, seconds=seconds) for connection in list(self._open)]
        await asyncio.wait(endings, timeout=seconds + 1.0)
        # Their handlers end with their sockets: wait for that too, so that nothing runs after the stop.
        try:
            async with asyncio.timeout(1.0):
                await self._none_open.wait()
        except TimeoutError:
            log.warning("connections_left", count=len(self._open))


KNOWN_CODES = frozenset({1000, 1001, 1002, 1006, 1007, 1009, 1011, *(row.close_code for row in close_code_table())})


def _code_label(code: int) -> str:
    """A client chooses its close code freely: only the known ones are labels of their own."""
    return str(code) if code in KNOWN_CODES else "other"
