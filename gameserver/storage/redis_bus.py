"""The bus over Redis pub/sub: one connection to publish, one to listen.

Publishing takes all that waits in one write, one round trip at a time and at most one in `COLLECT_SECONDS`: what comes
alone goes at once. The listening connection is pinged and must answer: one that a stopped server or a lost route keeps
open in silence is replaced, everything is subscribed again, and then it is said that there was a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from gameserver.config import RedisSettings
from gameserver.storage.bus import BusCounts, Handler
from gameserver.storage.redis_client import CONNECTION_ERRORS
from gameserver.storage.redis_link import RedisLink, RequestLink, packed

log = structlog.get_logger("gameserver.storage")

QUEUE_MESSAGES_MAX = 50_000
QUEUE_BYTES_MAX = 64 * 1024 * 1024
BATCH_MESSAGES_MAX = 1_000
COLLECT_SECONDS = 0.001
PING_SECONDS = 1.0
SILENT_SECONDS_MAX = 3.0
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
CLOSE_SECONDS = 0.5
_LOST = (*CONNECTION_ERRORS, ValueError)

_Publish = tuple[str, str, bytes]


class RedisBus:
    """`Bus` over one Redis or Valkey server. Make it in a running event loop; it connects by itself, and again."""

    __slots__ = (
        "_all_sent", "_changed", "_closed", "_gap_callbacks", "_handlers", "_listening", "_loop", "_missing", "_pool",
        "_queue", "_queued_bytes", "_ready", "_sent_at", "_settings", "_speaking", "_standing", "_tasks", "_told",
        "counts",
    )  # fmt: skip

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
        self._queue: deque[_Publish] = deque()
        self._queued_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._speaking: _Mouth | None = None
        self._ready = False
        """Nothing is under way: the next message goes at once."""
        self._sent_at = 0.0
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._handlers: dict[bytes, list[_Subscription]] = {}
        self._standing: set[bytes] = set()
        self._changed = asyncio.Event()
        self._gap_callbacks: list[Callable[[], None]] = []
        self._listening: _Ears | None = None
        self._missing: set[bytes] | None = None
        """After a gap: what must stand again before that is said."""
        self._told: dict[str, str] = {}
        self._closed = False
        self._tasks = [
            asyncio.create_task(self._speak_always(), name="bus publisher"),
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
        self._queue.append(("PUBLISH", channel, payload))
        self._queued_bytes += len(payload)
        self._all_sent.clear()
        if self._ready:
            self._go_on()
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

    # --- out ----------------------------------------------------------------------------------------------------------
    async def _speak_always(self) -> None:
        """Keeps a connection to publish over. What waits while there is none is dropped: it would come too late."""
        attempt = 0
        while not self._closed:
            try:
                link = self._speaking = await _Mouth.open(self._pool)
                self._works("publish")
                if attempt:
                    self._drop_queue()
                    if self.connected:  # else it is said when all subscriptions stand again
                        self._tell_gap()
                attempt = 0
                self._go_on()
                try:
                    raise await link.ended
                finally:
                    link.close()
            except _LOST as lost:
                self._tell("publish", lost)
                self._drop_queue()
                self._all_sent.set()
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    def _go_on(self) -> None:
        """Send what waits, or with the next message: at once, but for what the last time was too short ago."""
        if not self._queue:
            self._ready = True
            self._all_sent.set()
            return
        self._ready = False
        self._loop.call_at(max(self._loop.time(), self._sent_at + COLLECT_SECONDS), self._send, self._speaking)

    def _send(self, link: _Mouth | None) -> None:
        if link is None or link.closed or not self._queue:
            return  # the next connection goes on
        batch = self._take_batch()
        self._sent_at = self._loop.time()
        answered = link.ask(batch, self._sent_at + self._settings.timeout_seconds)
        answered.add_done_callback(partial(self._sent, batch))

    def _sent(self, batch: list[_Publish], answered: asyncio.Future[list[Any]]) -> None:
        counts = self.counts
        refused = len(batch) if answered.exception() else sum(isinstance(one, RedisError) for one in answered.result())
        counts.rounds += 1
        counts.dropped += refused
        counts.published += len(batch) - refused
        counts.published_bytes += sum(len(payload) for _, _, payload in batch)
        self._go_on()

    def _take_batch(self) -> list[_Publish]:
        queue = self._queue
        batch = [queue.popleft() for _ in range(min(len(queue), BATCH_MESSAGES_MAX))]
        for _, _, payload in batch:
            self._queued_bytes -= len(payload)
        return batch

    def _drop_queue(self) -> None:
        while self._queue:
            self.counts.dropped += len(self._take_batch())

    # --- in -----------------------------------------------------------------------------------------------------------
    async def _listen_always(self) -> None:
        attempt = 0
        again = False
        while not self._closed:
            try:
                link = await _Ears.open(self._pool, self._heard, self._changed.set)
                attempt = 0
                again, gap = True, again
                await self._keep(link, gap=gap)
            except _LOST as lost:
                self._tell("listen", lost)
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    async def _keep(self, link: _Ears, *, gap: bool) -> None:
        """Says what the listening connection has to say, until it is lost; cuts it when it is silent for too long."""
        self._listening = link
        self._missing = set(self._handlers) if gap else None
        asked: set[bytes] = set()
        try:
            while not link.closed:
                self._changed.clear()
                new = [name for name in self._handlers if name not in asked]
                old = [name for name in asked if name not in self._handlers]
                if new:
                    link.write(packed([("SUBSCRIBE", *new)]))
                if old:
                    link.write(packed([("UNSUBSCRIBE", *old)]))
                asked.update(new)
                asked.difference_update(old)
                try:
                    async with asyncio.timeout(PING_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    silent_seconds = link.loop.time() - link.heard_at
                    if silent_seconds > SILENT_SECONDS_MAX:
                        link.close(TimeoutError(f"silent for {silent_seconds:.1f} s"))
                    else:
                        link.write(packed([("PING",)]))
            raise link.error
        finally:
            self._listening = None
            self._standing.clear()
            link.close()

    def _heard(self, message: Any) -> None:
        """One message of the listening connection."""
        if isinstance(message, RedisError):
            if self._listening is not None:
                self._listening.close(message)
            return
        if not isinstance(message, list):
            return  # a pong from before the first subscription
        if message[0] == b"message":
            self._arrived(message[1], message[2])
        elif message[0] == b"subscribe":
            self._stands(message[1])
        elif message[0] == b"unsubscribe":
            self._standing.discard(message[1])
            if message[1] in self._handlers:  # wanted again meanwhile
                self._changed.set()
        if self._missing is not None and self._missing & self._handlers.keys() <= self._standing:
            self._missing = None
            self._works("listen")
            self._tell_gap()

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


class _Mouth(RequestLink):
    """The publishing connection."""

    __slots__ = ("ended",)

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self.ended: asyncio.Future[Exception] = self.loop.create_future()

    def lost(self, error: Exception) -> None:
        """It ends: another one is opened."""
        RequestLink.lost(self, error)  # compiled, such a method has no `super()`
        if not self.ended.done():
            self.ended.set_result(error)


class _Ears(RedisLink):
    """The listening connection."""

    __slots__ = ("_tell", "_tell_changed", "error")

    def __init__(self, connection: Any, heard: Callable[[Any], None], changed: Callable[[], None]) -> None:
        super().__init__(connection)
        self._tell = heard
        self._tell_changed = changed
        self.error: Exception = ConnectionLost("the connection was closed")

    def answered(self, answer: Any) -> None:
        """A message of a subscription."""
        self._tell(answer)

    def lost(self, error: Exception) -> None:
        """It ends: whoever keeps it looks."""
        self.error = error
        self._tell_changed()
