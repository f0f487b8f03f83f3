"""Calls of one Redis: pipelines and scripts, with a deadline, without repeats, with one kind of error."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import NoScriptError, RedisError

from gameserver.errors import StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage.redis_client import CONNECTION_ERRORS, redis_errors, unavailable
from gameserver.storage.redis_link import RequestLink, Told, packed

DEADLINE_SECONDS = 2.0

Command = tuple[Any, ...]


@cache
def script_text(name: str) -> bytes:
    """The text of `lua/<name>.lua`."""
    return (resources.files("gameserver.storage") / "lua" / f"{name}.lua").read_bytes()


@cache
def script_sha(name: str) -> str:
    """What the server calls this script."""
    return hashlib.sha1(script_text(name), usedforsecurity=False).hexdigest()


def script(name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Command:
    """The command that runs a script."""
    return ("EVALSHA", script_sha(name), len(keys), *keys, *args)


def loads(commands: Sequence[Command]) -> list[Command]:
    """The commands that load the scripts which these run."""
    wanted = {command[1] for command in commands if command[0] == "EVALSHA"}
    names = [path.name.removesuffix(".lua") for path in (resources.files("gameserver.storage") / "lua").iterdir()]
    return [("SCRIPT", "LOAD", script_text(name)) for name in names if script_sha(name) in wanted]


class RedisCalls:
    """Runs commands that may be repeated: each call ends by its deadline, and says so if the outcome is unknown."""

    def __init__(
        self, redis: Redis, *, deadline_seconds: float = DEADLINE_SECONDS, metrics: Metrics | None = None
    ) -> None:
        self._redis = redis
        self._deadline_seconds = deadline_seconds
        self._metrics = metrics or Metrics()
        self._given_up: set[asyncio.Task[list[Any]]] = set()

    async def close(self) -> None:
        """Close the connections; what was given up ends."""
        for task in self._given_up:
            task.cancel()
        await asyncio.gather(*self._given_up, return_exceptions=True)
        await self._redis.aclose()

    async def run(
        self, commands: Sequence[Command], *, atomic: bool = False, errors: bool = False, extra_seconds: float = 0.0
    ) -> list[Any]:
        """All commands in one round trip (`atomic`: as one transaction), and their answers.

        A refused command raises `StoreUnavailable`; with `errors` its error stands among the answers instead. Scripts
        that the server forgot are loaded, and then everything is run again.
        """
        try:
            with redis_errors():
                answers = await self._in_time(commands, atomic, self._deadline_seconds + extra_seconds)
                refused = next((answer for answer in answers if isinstance(answer, RedisError)), None)
                if refused is not None and not errors:
                    raise refused
        except StoreUnavailable:
            self._metrics.store_errors_total.labels("redis").inc()
            raise
        return answers

    async def _in_time(self, commands: Sequence[Command], atomic: bool, seconds: float) -> list[Any]:
        """One deadline over all of it: waiting for a connection, connecting, writing, each answer.

        In a task of its own, which is left alone when it does not end: redis-py has been seen to lose a cancellation
        and to go on until its own timeouts (when a connection became free at the same moment).
        """
        task = asyncio.create_task(self._load_and_run(commands, atomic=atomic))
        task.add_done_callback(_seen)
        try:
            await asyncio.wait((task,), timeout=seconds)
        finally:
            if not task.done():
                task.cancel()
                self._given_up.add(task)
                task.add_done_callback(self._given_up.discard)
        if not task.done():
            raise TimeoutError(f"no answer for {seconds:g} s")
        return task.result()

    async def _load_and_run(self, commands: Sequence[Command], *, atomic: bool) -> list[Any]:
        answers = await self._run(commands, atomic=atomic)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            await self._load_scripts(commands)
            answers = await self._run(commands, atomic=atomic)
        return answers

    async def _run(self, commands: Sequence[Command], *, atomic: bool) -> list[Any]:
        async with self._redis.pipeline(transaction=atomic) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute(raise_on_error=False)

    async def _load_scripts(self, commands: Sequence[Command]) -> None:
        await self._run(loads(commands), atomic=False)


class HeldCalls:
    """The same over one connection that is held open for it: for what is called all the time.

    Calls are carried out in their order, any number at a time. When one ends without an answer, all that are under way
    do, and the next one opens another connection.
    """

    def __init__(self, redis: Redis, *, deadline_seconds: float, metrics: Metrics, scripts: Sequence[str] = ()) -> None:
        """`scripts`: those that each connection loads first."""
        self._pool = redis.connection_pool
        self._idle_seconds_max: float = self._pool.connection_kwargs.get("health_check_interval") or math.inf
        self._deadline_seconds = deadline_seconds
        self._metrics = metrics
        self._link: RequestLink | None = None
        self._opening: asyncio.Task[RequestLink] | None = None
        self._loading = packed([("SCRIPT", "LOAD", script_text(name)) for name in scripts]), len(scripts)
        self._queued: list[tuple[bytes, int, float, Told]] = []
        """What waits for a connection."""
        self._queue: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Close the connection."""
        tasks = [task for task in (self._queue, self._opening) if task is not None]
        self._opening = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drop_queued(ConnectionLost("the connection was closed"))
        if self._link is not None:
            self._link.close()

    async def run(self, commands: Sequence[Command], *, extra_seconds: float = 0.0) -> list[Any]:
        """See `RedisCalls.run`."""
        due_at = asyncio.get_running_loop().time() + self._deadline_seconds + extra_seconds
        try:
            with redis_errors():
                answers = await self._ask(commands, due_at)
                if any(isinstance(answer, NoScriptError) for answer in answers):
                    await self._ask(loads(commands), due_at)
                    answers = await self._ask(commands, due_at)
                refused = next((answer for answer in answers if isinstance(answer, RedisError)), None)
                if refused is not None:
                    raise refused
        except StoreUnavailable:
            self._metrics.store_errors_total.labels("redis").inc()
            raise
        return answers

    def send(
        self,
        data: bytes,
        count: int,
        told: Callable[[list[Any] | StoreUnavailable], None],
        *,
        extra_seconds: float = 0.0,
    ) -> None:
        """`run` of so many commands that are `packed`, which calls back; all are told in the order of the calls.

        If one of them was refused the connection is closed: of what was sent after it nothing is known either.
        """
        due_at = asyncio.get_running_loop().time() + self._deadline_seconds + extra_seconds
        link = self._usable()
        checked = partial(self._checked, told)
        if link is not None and not self._queued:
            link.send(data, count, due_at, checked)
            return
        self._queued.append((data, count, due_at, checked))
        if len(self._queued) == 1:
            self._queue = asyncio.create_task(self._send_queued(due_at))

    async def _send_queued(self, due_at: float) -> None:
        try:
            link = self._usable() or await self._open(due_at)
        except CONNECTION_ERRORS as error:
            self._drop_queued(error)
            return
        queued, self._queued = self._queued, []
        for request in queued:
            link.send(*request)

    def _drop_queued(self, error: Exception) -> None:
        queued, self._queued = self._queued, []
        for _, _, _, told in queued:
            told(error)

    def _checked(self, told: Callable[[list[Any] | StoreUnavailable], None], answer: list[Any] | Exception) -> None:
        if isinstance(answer, Exception):
            self._failed(told, answer)
            return
        for one in answer:
            if isinstance(one, RedisError):
                self._failed(told, one)
                if self._link is not None:
                    self._link.close(one)
                return
        told(answer)

    def _failed(self, told: Callable[[list[Any] | StoreUnavailable], None], error: Exception) -> None:
        self._metrics.store_errors_total.labels("redis").inc()
        told(unavailable(error))

    def _usable(self) -> RequestLink | None:
        link = self._link
        if link is not None and link.idle_seconds > self._idle_seconds_max:
            link.close()  # something on the way may have forgotten it
        return None if link is None or link.closed else link

    async def _ask(self, commands: Sequence[Command], due_at: float) -> list[Any]:
        link = self._usable() or await self._open(due_at)
        return await link.ask(commands, due_at)

    async def _open(self, due_at: float) -> RequestLink:
        """In a task of its own, for all who wait for it: see `RedisCalls._in_time`."""
        opening = self._opening
        if opening is None:
            opening = self._opening = asyncio.create_task(self._opened_link())
            opening.add_done_callback(self._opened)
        await asyncio.wait((opening,), timeout=due_at - asyncio.get_running_loop().time())
        if not opening.done():
            self._opening = None  # the next call begins anew
            opening.cancel()
        if not opening.done() or opening.cancelled():
            raise TimeoutError("no connection in time")
        return opening.result()

    async def _opened_link(self) -> RequestLink:
        link = await RequestLink.open(self._pool)
        data, count = self._loading
        if count:
            link.send(data, count, asyncio.get_running_loop().time() + self._deadline_seconds, _ignore)
        return link

    def _opened(self, opening: asyncio.Task[RequestLink]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            link = None
        else:
            link = opening.result()
        if self._opening is opening:
            self._opening, self._link = None, link
        elif link is not None:
            link.close()  # it came too late


def _ignore(answer: list[Any] | Exception) -> None:
    """What needs the script is told that it is not there."""


def _seen(task: asyncio.Task[list[Any]]) -> None:
    """Whoever asked may be gone: nobody need be told then what became of it."""
    if not task.cancelled():
        task.exception()
