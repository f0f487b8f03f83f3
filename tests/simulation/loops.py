"""Processes on virtual time: each has an event loop of its own, and all of them share one clock.

A process that is paused runs nothing while time goes on: timers, what it was sent, what it was answered, all of it
waits and comes when it goes on, as after SIGSTOP and SIGCONT. One that is killed runs nothing ever again, not even its
`finally` blocks. What happens is decided by what was asked for, so a run is repeated by its seed.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

STEPS_MAX = 2_000_000  # a simulation that takes more does not come to an end


class Timeline:
    """The clock, and what happens at which moment in which process."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self.steps = 0
        self.failures: list[str] = []
        """What no process caught."""
        self._due: list[tuple[float, int, ProcessLoop, events.Handle]] = []
        self._order = 0

    def process(self, name: str) -> ProcessLoop:
        """A new process."""
        return ProcessLoop(self, name)

    def put(self, when: float, loop: ProcessLoop, handle: events.Handle) -> None:
        """Have this run then."""
        self._order += 1
        heapq.heappush(self._due, (when, self._order, loop, handle))

    def run(self, main: Coroutine[Any, Any, Any], loop: ProcessLoop) -> Any:
        """Run everything until `main`, a task of this process, is done; its result."""
        task = self.within(loop, lambda: loop.create_task(main))
        while not task.done():
            self.step()
            if self.failures:
                raise RuntimeError("; ".join(self.failures))
        return task.result()

    def step(self) -> None:
        """The next thing that is due."""
        if not self._due:
            raise RuntimeError("nothing will ever happen again")
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise RuntimeError(f"no end after {STEPS_MAX} steps")
        when, _, loop, handle = heapq.heappop(self._due)
        self.now = max(self.now, when)
        if handle.cancelled() or loop.killed:
            return
        if loop.paused:
            loop.held.append(handle)
            return
        self.within(loop, handle._run)

    def within(self, loop: ProcessLoop, call: Callable[[], Any]) -> Any:
        """Call this as the process does."""
        before = events._get_running_loop()
        events._set_running_loop(loop)
        try:
            return call()
        finally:
            events._set_running_loop(before)


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one process."""

    def __init__(self, timeline: Timeline, name: str) -> None:
        self.timeline = timeline
        self.name = name
        self.paused = False
        self.killed = False
        self.held: list[events.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def pause(self) -> None:
        """Nothing runs from now on."""
        self.paused = True

    def go_on(self) -> None:
        """All that has become due meanwhile runs now, in its order."""
        self.paused = False
        held, self.held = self.held, []
        for handle in held:
            self.timeline.put(self.timeline.now, self, handle)

    def kill(self) -> None:
        """The process is gone. Its tasks are kept, so that nothing of them runs when they would be collected."""
        self.killed = True
        self.held.clear()

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Tasks that still run."""
        return [task for task in self.tasks if not task.done()]

    # --- what asyncio asks of a loop ----------------------------------------------------------------------------------
    def time(self) -> float:
        return self.timeline.now

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self.timeline.put(self.timeline.now, self, handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.TimerHandle:
        handle = events.TimerHandle(when, callback, args, self, context)
        self.timeline.put(when, self, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> events.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # a killed process leaves them behind
        self.tasks.append(task)
        if len(self.tasks) > 256:
            self.tasks = self.tasks if self.killed else [task for task in self.tasks if not task.done()]
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Threads take no time here."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as failure:  # noqa: BLE001 - it is whoever's waits
            future.set_exception(failure)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        failure = context.get("exception")
        self.timeline.failures.append(f"{self.name}: {context.get('message')}: {failure!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.killed

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """It is skipped when it is due."""


async def others_done(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for tasks of other processes."""
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0.01)
    for task in tasks:
        task.result()
