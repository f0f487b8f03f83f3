"""One store as a child process: started, waited for, watched, restarted, stopped.

A child holds the lock of its folder by an inherited descriptor, so that nothing ever opens a store's files while an
old process still has them, whatever became of the server that started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from gameserver.config import DataSettings
from gameserver.errors import StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage.data_lock import FileLock

LAUNCHER = Path(__file__).with_name("launcher.py")
READY_RETRY_SECONDS = 0.02
READY_TRY_SECONDS = 1.0
POLL_SECONDS = 0.2
NUDGE_SECONDS = 0.05
ORPHAN_GRACE_SECONDS = 3.0
RESTART_SECONDS_MIN = 0.1
HEALTHY_SECONDS = 30.0
LOG_BYTES_MAX = 4 * 2**20
LOG_TAIL_BYTES = 1500

log = structlog.get_logger("gameserver.storage")


def tied(*program: str, death_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command that runs a program which is sent the signal when this process ends, however it ends."""
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)), *program]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run and how to see that it serves."""

    name: str
    command: tuple[str, ...]
    folder: Path
    ready: Callable[[], Awaitable[bool]]
    nudge: bool = False
    """It notices a request to stop with the next connection (else only after a timeout of its own)."""
    death_signal: signal.Signals = signal.SIGKILL
    """What it is sent when its server is gone; SIGTERM for one that has answered for what it has not written yet."""


class Child:
    """The process of one `ChildSpec`.

    It must be started from a thread that lives as long as the server (the main one): on Linux the child is sent its
    `death_signal` when the thread that started it ends.
    """

    def __init__(self, spec: ChildSpec, settings: DataSettings, metrics: Metrics) -> None:
        self.spec = spec
        self._settings = settings
        self._metrics = metrics
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    async def start(self, *, supervise: bool = True) -> None:
        """Start it and return when it serves; raises `StoreUnavailable` with the end of its log if it does not."""
        await self._launch()
        if supervise:
            self._supervisor = asyncio.create_task(self._supervise(), name=f"embedded-{self.spec.name}")

    async def stop(self) -> None:
        """Ask it to stop, wait `stop_seconds`, then kill it; returns when it is gone."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        process, self._process = self._process, None
        if process is not None:
            await self._end(process)

    # --- starting -----------------------------------------------------------------------------------------------------
    async def _launch(self) -> None:
        self.spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(self.spec.folder / "lock")
        await self._acquire(lock)
        if self._process is not None:
            await _exited(self._process)
        try:
            self._process = process = self._spawn(lock.descriptor)
            lock.write_pid(process.pid)
        finally:
            lock.release()
        try:
            await self._wait_ready(process)
        except BaseException:
            self._process = None
            await self._end(process)
            raise

    async def _acquire(self, lock: FileLock) -> None:
        """Wait for a process of an earlier server to let go; one that stays is an orphan and is killed.

        This server holds the data folder, so whoever still holds a store's lock has lost its server.
        """
        if await lock.acquire(ORPHAN_GRACE_SECONDS):
            return
        orphan = lock.read_pid()
        log.warning("embedded_orphan_killed", store=self.spec.name, pid=orphan)
        if orphan:
            _kill(orphan)
        if not await lock.acquire(self._settings.start_seconds):
            raise StoreUnavailable(
                f"The files of the embedded {self.spec.name} in {self.spec.folder} are still held by "
                f"a process of an earlier server (id {orphan}): end it and start again."
            )

    def _spawn(self, lock_descriptor: int) -> subprocess.Popen[bytes]:
        command = tied(*self.spec.command, death_signal=self.spec.death_signal)
        with self._log_path(rotate=True).open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.spec.folder,
                pass_fds=(lock_descriptor,),
                start_new_session=True,  # Ctrl-C goes to the server alone, which stops its children in order
            )

    async def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._settings.start_seconds
        while process.poll() is None and time.monotonic() < deadline:
            if await self._answers() and process.poll() is None:
                return
            await asyncio.sleep(READY_RETRY_SECONDS)
        what = f"ended with code {process.poll()}" if process.poll() is not None else "did not answer in time"
        raise StoreUnavailable(
            f"The embedded {self.spec.name} {what}. The end of its log {self._log_path()}:\n{self._log_tail()}"
        )

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(READY_TRY_SECONDS):
                return await self.spec.ready()
        except (OSError, TimeoutError, EOFError):
            return False

    # --- watching -----------------------------------------------------------------------------------------------------
    async def _supervise(self) -> None:
        pause = RESTART_SECONDS_MIN
        while True:
            started = time.monotonic()
            if self._process is not None:
                code = await _exited(self._process)
                log.error("embedded_store_died", store=self.spec.name, code=code, log_end=self._log_tail())
            if time.monotonic() - started > HEALTHY_SECONDS:
                pause = RESTART_SECONDS_MIN
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._settings.restart_seconds_max)
            try:
                await self._launch()
            except (StoreUnavailable, OSError) as error:
                log.error("embedded_store_not_restarted", store=self.spec.name, reason=str(error))
            else:
                self._metrics.embedded_restarts_total.labels(self.spec.name).inc()
                log.info("embedded_store_restarted", store=self.spec.name, pid=self.pid)

    # --- stopping -----------------------------------------------------------------------------------------------------
    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
            try:
                async with asyncio.timeout(self._settings.stop_seconds):
                    await self._wait_ended(process)
            except TimeoutError:
                log.warning("embedded_store_killed", store=self.spec.name, pid=process.pid)
                process.kill()
                await _exited(process)
        process.wait()

    async def _wait_ended(self, process: subprocess.Popen[bytes]) -> None:
        nudging = asyncio.create_task(self._nudge()) if self.spec.nudge else None
        try:
            await _exited(process)
        finally:
            if nudging is not None:
                nudging.cancel()
                await asyncio.gather(nudging, return_exceptions=True)

    async def _nudge(self) -> None:
        while True:
            await asyncio.sleep(NUDGE_SECONDS)
            await self._answers()

    # --- its log ------------------------------------------------------------------------------------------------------
    def _log_path(self, *, rotate: bool = False) -> Path:
        path = self.spec.folder / f"{self.spec.name}.log"
        if rotate and path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        return path

    def _log_tail(self) -> str:
        try:
            return self._log_path().read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return "(no log)"


async def _exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the process without a thread and, where the kernel can tell, without polling."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        while process.poll() is None:  # noqa: ASYNC110 - there is nobody who could set an event
            await asyncio.sleep(POLL_SECONDS)
        return process.wait()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:  # gone meanwhile, or not ours to kill: the lock tells
        pass
