"""A connection to Redis that is held open for one purpose, without redis-py on the way.

redis-py connects: address, TLS, user, database and timeouts are its business, and whatever its pool was told. Then a
`RedisLink` takes the transport over: requests go straight into it, and answers are parsed where their bytes arrive. A
call costs no task, no timer and no turn of a stream that way: 29 µs instead of 98 for an append. This module is the one
place that does so; of redis-py it uses `Connection._writer` and `Connection._close`, which are not public.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

import hiredis
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, RedisError, ResponseError

T = TypeVar("T")
Told = Callable[[list[Any] | Exception], None]
"""Is told the answers, or why there are none."""
_INCOMPLETE: Final = object()


class RedisLink:
    """One connection until it is lost, never opened again. Subclasses say what becomes of the answers."""

    __slots__ = ("__weakref__", "_connection", "_reader", "_transport", "closed", "heard_at", "loop")

    def __init__(self, connection: Any) -> None:
        """Not made by itself: `open` it."""
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self.heard_at = self.loop.time()
        """When bytes arrived last, on the loop's clock."""
        self._connection = connection  # closes the transport when it is collected
        self._transport: asyncio.WriteTransport = self._connection._writer.transport
        self._transport.set_protocol(self)  # its methods are enough: a class in C has no base in Python
        self._reader = hiredis.Reader(replyError=_error, notEnoughData=_INCOMPLETE)

    @classmethod
    async def open(cls, pool: Any, *arguments: Any) -> Self:
        """A connection as redis-py's pool makes them, beside those that it holds. Raises what redis-py raises.

        `arguments`: what else the class wants to have.
        """
        connection = pool.make_connection()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection, *arguments)

    # --- for subclasses -----------------------------------------------------------------------------------------------
    def answered(self, answer: Any) -> None:
        """One answer, or a message of a subscription; an error of the server is an answer too. Must not raise."""
        raise NotImplementedError

    def lost(self, error: Exception) -> None:
        """Nothing more comes: what has no answer yet was carried out or was not."""
        raise NotImplementedError

    # --- out ----------------------------------------------------------------------------------------------------------
    def write(self, data: bytes) -> None:
        """Send what `packed` made."""
        try:
            self._transport.write(data)
        except RuntimeError as error:  # uvloop's word for a connection that was reset since
            self.close(ConnectionLost(str(error)))

    def close(self, error: Exception | None = None) -> None:
        """At once, whatever is under way."""
        if self.closed:
            return
        self.closed = True
        self._transport.abort()
        self._connection._close()  # what `disconnect` does, without waiting
        self.lost(error or ConnectionLost("the connection was closed"))

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Bytes from the server."""
        self.heard_at = self.loop.time()
        reader = self._reader
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _INCOMPLETE:
                self.answered(answer)
        except hiredis.HiredisError as error:
            self.close(ConnectionLost(f"this is not the Redis protocol: {error}"))

    def eof_received(self) -> None:
        """The transport closes itself."""

    def connection_lost(self, error: Exception | None) -> None:
        """The server is gone."""
        self.close(ConnectionLost(str(error) if error else "the server closed the connection"))

    def pause_writing(self) -> None:
        """Whoever asks limits how much is under way."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""


class RequestLink(RedisLink):
    """Requests and their answers, in order; any number of them may be under way."""

    __slots__ = ("_asked", "_timer")

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._asked: deque[_Request] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, commands: Sequence[Sequence[Any]], due_at: float) -> asyncio.Future[list[Any]]:
        """The commands' answers. If they are not there in time the link is closed, and all that is asked is unknown."""
        future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.send(packed(commands), len(commands), due_at, partial(settle, future))
        return future

    def send(self, data: bytes, count: int, due_at: float, told: Told) -> None:
        """`ask` with so many commands that are `packed`, which calls back as the answers arrive; `told` must not raise.

        All are told in the order of the requests.
        """
        if self.closed:
            told(ConnectionLost("the connection was closed"))
            return
        self._asked.append(_Request(told, count, due_at))
        if self._timer is None:
            self._timer = self.loop.call_at(due_at, self._look)
        self.write(data)

    @property
    def idle_seconds(self) -> float:
        """For how long nothing was asked."""
        return 0.0 if self._asked else self.loop.time() - self.heard_at

    def answered(self, answer: Any) -> None:
        """It belongs to the oldest request."""
        if not self._asked:
            self.close(ConnectionLost("an answer that nothing was asked for"))
            return
        request = self._asked[0]
        request.answers.append(answer)
        if len(request.answers) == request.count:
            self._asked.popleft()
            request.told(request.answers)

    def lost(self, error: Exception) -> None:
        """Nobody knows what became of what was asked."""
        if self._timer is not None:
            self._timer.cancel()
        while self._asked:
            request = self._asked.popleft()
            request.told(error)

    def _look(self) -> None:
        """One timer for all requests: it goes on to the oldest one's time."""
        self._timer = None
        if not self._asked:
            return
        request = self._asked[0]
        if request.due_at <= self.loop.time():
            self.close(TimeoutError("no answer in time"))
        else:
            self._timer = self.loop.call_at(request.due_at, self._look)


class _Request:
    __slots__ = ("answers", "count", "due_at", "told")

    def __init__(self, told: Told, count: int, due_at: float) -> None:
        self.told = told
        self.count = count
        self.due_at = due_at
        self.answers: list[Any] = []


def settle(future: asyncio.Future[list[T]], answer: list[T] | Exception) -> None:
    """Passes on what was told to whoever awaits it."""
    if future.done():
        return  # whoever asked is gone
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def packed(commands: Sequence[Sequence[Any]]) -> bytes:
    """Commands as bytes; each is a sequence of words, numbers and bytes."""
    return b"".join([hiredis.pack_command(tuple(command)) for command in commands])


def _error(text: str) -> RedisError:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
