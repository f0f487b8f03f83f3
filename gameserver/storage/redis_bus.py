"""The bus over Redis pub/sub: one connection to publish, one to listen.

Publishing takes all that waits in one pipeline, one round trip at a time. The listening connection is pinged and must
answer: one that a stopped server or a lost route keeps open in silence is replaced, everything is subscribed again, and
then it is said that there was a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from gameserver.config import RedisSettings
from gameserver.storage.bus import BusCounts, Handler
from gameserver.storage.redis_client import CONNECTION_ERRORS

log = structlog.get_logger("gameserver.storage")

QUEUE_MESSAGES_MAX = 50_000
QUEUE_BYTES_MAX = 64 * 1024 * 1024
BATCH_MESSAGES_MAX = 1_000
PING_SECONDS = 1.0
SILENT_SECONDS_MAX = 3.0
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
CLOSE_SECONDS = 0.5
_LOST = (*CONNECTION_ERRORS, ValueError)


class RedisBus:
    """`Bus` over one Redis or Valkey server. Make it in a running event loop; it connects by itself, and again."""

    def __init__(self, url: str, settings: RedisSettings) -> None:
        self.counts = BusCounts()
        self._settings = settings
        # RESP2: what arrives for a subscription is an ordinary answer there, read like any other.
        self._pool: Any = ConnectionPool.from_url(
            url,
            max_connections=4,
            protocol=2,
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.connect_timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            client_name="gameserver-bus",
        )
        self._queue: deque[tuple[str, bytes]] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._handlers: dict[bytes, list[_Subscription]] = {}
        self._standing: set[bytes] = set()
        self._changed = asyncio.Event()
        self._gap_callbacks: list[Callable[[], None]] = []
        self._listening: AbstractConnection | None = None
        self._heard_at = 0.0
        self._told: dict[str, str] = {}
        self._closed = False
        self._tasks = [
            asyncio.create_task(self._publish_all(), name="bus publisher"),
            asyncio.create_task(self._listen_always(), name="bus listener"),
        ]

    # --- Bus ----------------------------------------------------------------------------------------------------------
    @property
    def connected(self) -> bool:
        """Whether all subscriptions stand."""
        return self._listening is not None and self._standing >= self._handlers.keys()

    def publish(self, channel: str, payload: bytes) -> bool:
        """See `Bus.publish`."""
        if len(self._queue) >= QUEUE_MESSAGES_MAX or self._queued_bytes + len(payload) > QUEUE_BYTES_MAX:
            self.counts.dropped += 1
            return False
        self._queue.append((channel, payload))
        self._queued_bytes += len(payload)
        self._wake.set()
        self._all_sent.clear()
        return True

    def subscribe(self, channel: str, handler: Handler) -> _Subscription:
        """See `Bus.subscribe`."""
        name = channel.encode()
        subscription = _Subscription(self, name, handler)
        self._handlers.setdefault(name, []).append(subscription)
        self._changed.set()
        return subscription

    def on_gap(self, callback: Callable[[], None]) -> None:
        """See `Bus.on_gap`."""
        self._gap_callbacks.append(callback)

    async def close(self) -> None:
        """See `Bus.close`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._all_sent.wait()
        self._closed = True
        left: set[asyncio.Task[None]] = set(self._tasks)
        for _ in range(3):  # redis-py has been seen to lose a cancellation
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=CLOSE_SECONDS)
            if not left:
                break
        await self._pool.disconnect()

    # --- out ----------------------------------------------------------------------------------------------------------
    async def _publish_all(self) -> None:
        connection: AbstractConnection | None = None
        attempt = 0
        try:
            while not self._closed:
                if not self._queue:
                    self._all_sent.set()
                await self._wake.wait()
                batch = self._take_batch()
                try:
                    if connection is None:
                        connection = await self._connect()
                    await self._send(connection, batch)
                except _LOST as lost:
                    self.counts.dropped += len(batch)
                    self._tell("publish", lost)
                    if connection is not None:
                        await _disconnect(connection)
                        connection = None
                    await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                    attempt += 1
                else:
                    attempt = 0
                    self._works("publish")
        finally:
            if connection is not None:
                await _disconnect(connection)

    def _take_batch(self) -> list[tuple[str, bytes]]:
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), BATCH_MESSAGES_MAX))]
        self._queued_bytes -= sum(len(payload) for _, payload in batch)
        if not queue:
            self._wake.clear()
        return batch

    async def _send(self, connection: AbstractConnection, batch: list[tuple[str, bytes]]) -> None:
        if not batch:
            return
        await connection.send_packed_command(
            connection.pack_commands([("PUBLISH", channel, payload) for channel, payload in batch]),
            check_health=False,
        )
        for _ in batch:
            await connection.read_response(disable_decoding=True)
        self.counts.rounds += 1
        self.counts.published += len(batch)
        self.counts.published_bytes += sum(len(payload) for _, payload in batch)

    # --- in -----------------------------------------------------------------------------------------------------------
    async def _listen_always(self) -> None:
        attempt = 0
        before = False
        while not self._closed:
            connection = None
            try:
                connection = await self._connect()
                attempt = 0
                await self._listen(connection, gap=before)
            except _LOST as lost:
                before = before or self._listening is not None
                self._tell("listen", lost)
            finally:
                self._listening = None
                self._standing.clear()
                if connection is not None:
                    await _disconnect(connection)
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    async def _listen(self, connection: AbstractConnection, *, gap: bool) -> None:
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        self._listening = connection
        keeper = asyncio.create_task(self._keep(connection), name="bus keeper")
        try:
            wanted = set(self._handlers) if gap else set()
            while not self._closed:
                message = await connection.read_response(disable_decoding=True, timeout=math.inf, push_request=True)
                self._heard_at = loop.time()
                if not isinstance(message, list):
                    continue  # a pong from before the first subscription
                if message[0] == b"message":
                    self._arrived(message[1], message[2])
                elif message[0] == b"subscribe":
                    self._stands(message[1])
                elif message[0] == b"unsubscribe":
                    self._standing.discard(message[1])
                    if message[1] in self._handlers:  # wanted again meanwhile
                        self._changed.set()
                if gap and wanted & self._handlers.keys() <= self._standing:
                    gap = False
                    self._works("listen")
                    self._tell_gap()
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self, connection: AbstractConnection) -> None:
        """Sends what the listening connection has to say; cuts it when the server has been silent for too long."""
        loop = asyncio.get_running_loop()
        asked: set[bytes] = set()
        try:
            while True:
                self._changed.clear()
                new = [name for name in self._handlers if name not in asked]
                old = [name for name in asked if name not in self._handlers]
                if new:
                    await connection.send_command("SUBSCRIBE", *new, check_health=False)
                if old:
                    await connection.send_command("UNSUBSCRIBE", *old, check_health=False)
                asked.update(new)
                asked.difference_update(old)
                try:
                    async with asyncio.timeout(PING_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    if loop.time() - self._heard_at > SILENT_SECONDS_MAX:
                        raise TimeoutError(f"silent for {loop.time() - self._heard_at:.1f} s") from None
                    await connection.send_command("PING", check_health=False)
        except _LOST as lost:
            self._tell("listen", lost)
            await _disconnect(connection)  # wakes the reader with an error

    def _arrived(self, channel: bytes, payload: bytes) -> None:
        self.counts.received += 1
        for subscription in tuple(self._handlers.get(channel, ())):
            try:
                subscription.handler(payload)
            except Exception as failure:
                log.error("bus_handler_failed", channel=channel.decode(errors="replace"), exc_info=failure)

    def _stands(self, channel: bytes) -> None:
        self._standing.add(channel)
        for subscription in self._handlers.get(channel, ()):
            subscription.stands.set()

    def _tell_gap(self) -> None:
        self.counts.gaps += 1
        for callback in self._gap_callbacks:
            try:
                callback()
            except Exception as failure:
                log.error("bus_gap_callback_failed", exc_info=failure)

    def unsubscribe(self, subscription: _Subscription) -> None:
        """What `Subscription.close` does."""
        handlers = self._handlers.get(subscription.channel, [])
        if subscription in handlers:
            handlers.remove(subscription)
            if not handlers:
                del self._handlers[subscription.channel]
                self._changed.set()

    def stands(self, channel: bytes) -> bool:
        """Whether the server has confirmed this channel."""
        return channel in self._standing

    # --- both ---------------------------------------------------------------------------------------------------------
    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await _disconnect(connection)
            raise
        return connection

    def _tell(self, what: str, lost: Exception) -> None:
        """Once per outage, not once per attempt."""
        text = str(lost) or type(lost).__name__
        if what not in self._told:
            log.warning("bus_cut_off", during=what, error=text)
        self._told[what] = text

    def _works(self, what: str) -> None:
        if self._told.pop(what, None) is not None:
            log.info("bus_works_again", during=what)


class _Subscription:
    """One handler on one channel."""

    __slots__ = ("_bus", "channel", "handler", "stands")

    def __init__(self, bus: RedisBus, channel: bytes, handler: Handler) -> None:
        self._bus = bus
        self.channel = channel
        self.handler = handler
        self.stands = asyncio.Event()
        if bus.stands(channel):
            self.stands.set()

    async def ready(self) -> None:
        """See `Subscription.ready`."""
        await self.stands.wait()

    def close(self) -> None:
        """See `Subscription.close`."""
        self._bus.unsubscribe(self)


async def _disconnect(connection: AbstractConnection | Connection) -> None:
    with contextlib.suppress(*_LOST):
        await connection.disconnect(nowait=True)
