"""The watchdog: a thread that sees game code which does not return, says which, and ends the process.

Game code runs on the event loop, so a handler that never returns stops every match of the node, and nothing short of
ending the process gets rid of it. The match is marked as suspect first; the node's other matches are taken over, or
claimed again by the node's next process.

The loop stamps a heartbeat; while that is fresh this thread looks at nothing else. When it is old `RUNNING` tells which
call of author code the loop is in. What counts is one call that does not return, as seen by this thread: neither many
slow matches in a row, nor the time that the process was stopped. Code that does not even let other threads run (a
regular expression that backtracks for ever) is seen by the kernel: each look rearms a timer of used CPU time, whose
signal writes the stack and ends the process.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gameserver.match import RUNNING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from types import FrameType

log = structlog.get_logger("gameserver.cluster")

EXIT_CODE = 70
"""What the process ends with: `EX_SOFTWARE` of sysexits.h."""
LOOKS = 20  # per threshold
OURS_FACTOR = 6  # a loop that hangs in no game's code gets so much longer
CPU_FACTOR = 2  # code that lets no other thread run gets so much CPU time
REPORT_SECONDS = 3.0  # for the log and the mark; then the process ends all the same


@dataclass(frozen=True, slots=True)
class Stuck:
    """What did not return. `match_id` is empty if it was no game's code."""

    match_id: str
    game: str
    epoch: int
    method: str
    seconds: float
    stack: str


class Watchdog:
    """Watches the loop of the thread that calls `start`."""

    def __init__(
        self,
        seconds: float,
        mark_suspect: Callable[[Stuck], None],
        *,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """`mark_suspect` is called in a thread of its own, and given up after a moment. `seconds` 0: off."""
        self._seconds = seconds
        self._mark_suspect = mark_suspect
        self._end = end
        self._beaten = 0.0
        self._stopped = threading.Event()
        self._watched = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def interval_seconds(self) -> float:
        """How often the loop beats, and this thread looks."""
        return self._seconds / LOOKS

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch the calling thread, which runs this loop. Under a debugger it does not."""
        if self._seconds <= 0:
            return
        if sys.gettrace() is not None:
            log.info("watchdog_off", reason="a debugger or tracer is active")
            return
        self._watched = threading.get_ident()
        self._loop = loop
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        if self._loop is not None and not self._stopped.is_set():
            self._timer = self._loop.call_later(self.interval_seconds, self._beat)

    # --- the thread ---------------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        try:
            self._run()
        finally:
            _arm_cpu_timer(0)  # it outlives the thread, and would end the process much later

    def _run(self) -> None:
        interval = self.interval_seconds
        beaten: float | None = None
        call = 0
        in_call = in_all = 0.0
        told = False
        seen = time.monotonic()
        _arm_cpu_timer(self._seconds * CPU_FACTOR)
        while not self._stopped.wait(interval):
            _arm_cpu_timer(self._seconds * CPU_FACTOR)
            # A process that was stopped, or got no CPU, has not run its game either: a look counts as two at most.
            now = time.monotonic()
            passed, seen = min(now - seen, 2 * interval), now
            if self._beaten != beaten:
                beaten, call, in_call, in_all, told = self._beaten, 0, 0.0, 0.0, False
                continue
            in_all += passed
            found = 0 if RUNNING.match is None else RUNNING.number
            if found == 0 or found != call:
                call, in_call = found, 0.0
            else:
                in_call += passed
            if in_call >= self._seconds or in_all >= self._seconds * OURS_FACTOR:
                if self._traced():
                    in_call = in_all = 0.0
                    continue
                self._give_up(self._describe(in_call if call else in_all))
                return
            if in_all >= self._seconds and not call and not told:
                told = True
                log.error("loop_stands_still", seconds=round(in_all, 1), stack=self._stack())

    def _frames(self) -> Iterator[FrameType]:
        """The watched thread's frames, innermost first."""
        frame = sys._current_frames().get(self._watched)
        while frame is not None:
            yield frame
            frame = frame.f_back

    def _traced(self) -> bool:
        """Somebody sits in a debugger that was started meanwhile (`breakpoint()`)."""
        return any(frame.f_trace is not None for frame in self._frames())

    def _stack(self) -> str:
        return "".join(traceback.format_stack(next(self._frames(), None)))

    def _describe(self, seconds: float) -> Stuck:
        match, what, stack = RUNNING.match, RUNNING.what, self._stack()
        if match is None:
            return Stuck("", "", 0, "", seconds, stack)
        return Stuck(match.id, match.spec.name, match.epoch, what, seconds, stack)

    def _give_up(self, stuck: Stuck) -> None:
        """Tell and mark, as far as that is possible within a moment, then end the process."""
        reporting = threading.Thread(target=self._report, args=(stuck,), name="watchdog report", daemon=True)
        reporting.start()
        reporting.join(REPORT_SECONDS)
        if reporting.is_alive():  # perhaps what hangs holds the log's lock: this needs none
            faulthandler.dump_traceback(all_threads=True)
        self._end(EXIT_CODE)

    def _report(self, stuck: Stuck) -> None:
        log.critical(
            "game_code_does_not_return" if stuck.match_id else "loop_stands_still",
            match=stuck.match_id,
            game=stuck.game,
            method=stuck.method,
            seconds=round(stuck.seconds, 1),
            consequence=f"this process ends with code {EXIT_CODE}",
            stack=stuck.stack,
        )
        try:
            if stuck.match_id:
                self._mark_suspect(stuck)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the process ends now
            log.error("match_not_marked_suspect", match=stuck.match_id, error=str(failure) or type(failure).__name__)
        logging.shutdown()


def _arm_cpu_timer(seconds: float) -> None:
    """After so much CPU time without another call: the stack to standard error, and the signal's default, the end."""
    if not hasattr(signal, "setitimer"):
        return
    if seconds > 0:
        faulthandler.register(signal.SIGVTALRM, all_threads=True, chain=True)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
