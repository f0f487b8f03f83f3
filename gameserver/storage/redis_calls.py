"""Calls of one Redis: pipelines and scripts, with a deadline, without repeats, with one kind of error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from gameserver.errors import StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage.redis_client import redis_errors

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

    async def run_script(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Run one script."""
        return (await self.run([script(name, keys, args)]))[0]

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
        wanted = {command[1] for command in commands if command[0] == "EVALSHA"}
        names = [path.name.removesuffix(".lua") for path in (resources.files("gameserver.storage") / "lua").iterdir()]
        loads = [("SCRIPT LOAD", script_text(name)) for name in names if script_sha(name) in wanted]
        await self._run(loads, atomic=False)


def _seen(task: asyncio.Task[list[Any]]) -> None:
    """Whoever asked may be gone: nobody need be told then what became of it."""
    if not task.cancelled():
        task.exception()
