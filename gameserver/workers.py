"""`gameserver run --workers N`: a supervisor process with N nodes as children behind one port.

The supervisor starts the embedded stores once and gives the workers their addresses. Every worker is a whole node: it
listens on the shared port, where the kernel spreads new connections over the workers, and on a port of its own, by
which it can be reached directly. A worker that dies is started again; SIGHUP restarts them one after another; on
SIGTERM they stop in order. The workers and the stores die with the supervisor, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from gameserver.errors import ConfigError, GameServerError
from gameserver.logs import configure_logging
from gameserver.metrics import Metrics
from gameserver.storage import EmbeddedStores, free_port, tied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from gameserver.config import Settings

log = structlog.get_logger("gameserver")

WORKERS_MAX = 64
POLL_SECONDS = 0.05
RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 5.0
HEALTHY_SECONDS = 30.0  # a worker that served for so long is started again at once
START_FAILURES_MAX = 5  # in a row, of a worker that never served: more tries would not help
START_SECONDS = 60.0  # how long a rolling restart waits for a worker to serve before the next one goes
STOP_GRACE_SECONDS = 2.0  # beyond `server.drain_seconds`, by which workers end themselves
EXIT_CONFIG = 2


@dataclass(slots=True)
class Worker:
    """One place for a node: its process comes and goes, its name and its port stay."""

    index: int
    node: str
    port: int
    process: asyncio.subprocess.Process | None = None
    served: bool = False
    """This process has opened its port."""
    served_ever: bool = False
    failures: int = 0
    restarts: int = 0
    expected: bool = False
    """It was told to stop, to be started again."""
    serving: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Starts workers and keeps them running until it is told to stop."""

    def __init__(self, settings: Settings, count: int, games: Sequence[str], config: Path | None) -> None:
        if not 1 <= count <= WORKERS_MAX:
            raise ConfigError(f"--workers: expected a number from 1 to {WORKERS_MAX}, not {count}.")
        self._settings = settings
        self._games = games
        self._config = config
        self._stores: EmbeddedStores | None = None
        self._environment: dict[str, str] = {}
        self._held: socket.socket | None = None
        self._stopping = asyncio.Event()
        self._problem: GameServerError | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._rolling: asyncio.Task[None] | None = None
        self.port = settings.server.port
        base = settings.server.node_id or socket.gethostname()
        self.workers = [Worker(index, f"{base}-{index}", 0) for index in range(count)]

    @property
    def url(self) -> str:
        """Where the server can be reached from this machine."""
        host = self._settings.server.host
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - shown, not bound
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}"

    # --- life ---------------------------------------------------------------------------------------------------------
    async def run(self, on_started: Callable[[str, int], None] | None = None) -> int:
        """Run until a signal; the exit code. Raises what kept it from starting."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_roll)
        try:
            self._hold_port()
            await self._start_stores()
            self._environment = self._make_environment()
            for worker in self.workers:
                worker.port = free_port()
                self._tasks.append(asyncio.create_task(self._keep(worker), name=f"worker {worker.index}"))
            await self._until_all_serve()
            if not self._stopping.is_set():
                log.info("workers_started", url=self.url, nodes={worker.node: worker.port for worker in self.workers})
                if on_started is not None:
                    on_started(self.url, len(self.workers))
            await self._stopping.wait()
        finally:
            clean = await self._stop()
        if self._problem is not None:
            raise self._problem
        return 0 if clean else 1

    async def _until_all_serve(self) -> None:
        serving = asyncio.gather(*(worker.serving.wait() for worker in self.workers))
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        for waiting in (serving, stopping):
            waiting.cancel()
        await asyncio.gather(serving, stopping, return_exceptions=True)

    def _on_stop(self, number: signal.Signals) -> None:
        if self._stopping.is_set():  # a second signal is not waited for
            for worker in self.workers:
                _signal(worker, signal.SIGKILL)
            return
        log.info("stopping", signal=number.name)
        self._stopping.set()

    def _give_up(self, problem: GameServerError) -> None:
        self._problem = self._problem or problem
        self._stopping.set()

    async def _stop(self) -> bool:
        """Stop workers, then stores. False: something had to be killed."""
        self._stopping.set()
        if self._rolling is not None:
            self._rolling.cancel()
        for worker in self.workers:
            _signal(worker, signal.SIGTERM)
        clean = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._settings.server.drain_seconds + STOP_GRACE_SECONDS)
            clean = not late
            for worker in self.workers:
                if worker.process is not None and worker.process.returncode is None:
                    log.error("worker_killed", node=worker.node, reason="it did not stop in time")
                    _signal(worker, signal.SIGKILL)
            await asyncio.gather(*self._tasks, return_exceptions=True)
            clean = clean and all(map(_ended_well, self.workers))
        if self._stores is not None:
            await self._stores.stop()
        if self._held is not None:
            self._held.close()
        log.info("workers_stopped", clean=clean)
        return clean

    # --- what workers share -------------------------------------------------------------------------------------------
    def _hold_port(self) -> None:
        """Take the shared port without listening on it: workers may come and go, nobody else gets it meanwhile."""
        server = self._settings.server
        try:
            family, _, _, _, address = socket.getaddrinfo(
                server.host or None, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # Without SO_REUSEPORT: another server's workers on this port would share it with ours.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                port = probe.getsockname()[1]
            self._held = socket.socket(family, socket.SOCK_STREAM)
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._held.bind((address[0], port, *address[2:]))
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {server.host}:{server.port}: {error.strerror or error}. "
                "Stop what uses it, or choose another port (--port, server.port or GAMESERVER__SERVER__PORT)."
            ) from None
        self.port = port

    async def _start_stores(self) -> None:
        settings = self._settings
        wanted = {"redis": settings.redis.url is None, "mongo": settings.mongo.url is None}
        if any(wanted.values()):
            self._stores = EmbeddedStores(settings.data, Metrics(), **wanted)
            await self._stores.start()

    def _make_environment(self) -> dict[str, str]:
        """The settings in which workers differ from the configuration; the environment comes above its file."""
        values = {"SERVER__HOST": self._settings.server.host, "SERVER__PORT": str(self.port)}
        values["SERVER__REUSE_PORT"] = "true"
        if self._stores is not None:
            urls = {"REDIS__URL": self._stores.redis_url, "MONGO__URL": self._stores.mongo_url}
            values |= {name: url for name, url in urls.items() if url is not None}
        changed = {f"GAMESERVER__{name}": value for name, value in values.items()}
        kept = {name: value for name, value in os.environ.items() if name.upper() not in changed}
        return kept | changed

    # --- one worker ---------------------------------------------------------------------------------------------------
    async def _keep(self, worker: Worker) -> None:
        """Start the worker, and again whenever it ends."""
        pause = RESTART_SECONDS_MIN
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(worker)
            if self._stopping.is_set():
                return
            if worker.expected:
                worker.expected = False
                continue
            worker.failures = 0 if worker.served else worker.failures + 1
            log.error("worker_died", node=worker.node, code=code, served=worker.served, restart_seconds=pause)
            if problem := self._hopeless(worker, code):
                self._give_up(problem)
                return
            if worker.served and time.monotonic() - started > HEALTHY_SECONDS:
                pause = RESTART_SECONDS_MIN
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(pause * 2, RESTART_SECONDS_MAX)
            worker.restarts += 1

    def _hopeless(self, worker: Worker, code: int) -> GameServerError | None:
        """Why there is no point in another try. What has served once is tried for ever: a store may be away."""
        if worker.served_ever:
            return None
        if code == EXIT_CONFIG and not any(one.served_ever for one in self.workers):
            return ConfigError(f"The worker {worker.node} could not start: see its message above.")
        if worker.failures >= START_FAILURES_MAX:
            return ConfigError(
                f"The worker {worker.node} died {worker.failures} times in a row before it served, last with code "
                f"{code}: giving up. Its log is above; `gameserver run` without --workers shows it alone."
            )
        return None

    async def _run_once(self, worker: Worker) -> int:
        """One process, from its start to its end."""
        worker.served = False
        worker.serving.clear()
        command = [sys.executable, "-m", "gameserver", "run", *self._games]
        if self._config is not None:
            command += ["--config", str(self._config)]
        own = {
            "GAMESERVER__SERVER__NODE_ID": worker.node,
            "GAMESERVER__SERVER__DIRECT_PORT": str(worker.port),
        }
        worker.process = process = await asyncio.create_subprocess_exec(
            *tied(*command),
            env=_without(self._environment, own) | own,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone, which tells the workers
        )  # fmt: skip
        if self._stopping.is_set():
            _signal(worker, signal.SIGTERM)
        watching = asyncio.create_task(self._watch_start(worker))
        try:
            return await process.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            worker.serving.clear()

    async def _watch_start(self, worker: Worker) -> None:
        """The ports are what a worker opens last."""
        host = self._settings.server.host
        while True:
            try:
                _, writer = await asyncio.open_connection(_reachable(host), worker.port)
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
                continue
            writer.close()
            worker.served = worker.served_ever = True
            worker.serving.set()
            return

    # --- rolling restart ----------------------------------------------------------------------------------------------
    def _on_roll(self) -> None:
        if self._stopping.is_set() or (self._rolling is not None and not self._rolling.done()):
            return
        self._rolling = asyncio.create_task(self._roll(), name="rolling restart")

    async def _roll(self) -> None:
        """Restart the workers one after another; each hands its matches to the others before it goes."""
        log.info("rolling_restart", workers=len(self.workers))
        started = time.monotonic()
        for worker in self.workers:
            before = worker.process
            worker.expected = before is not None and before.returncode is None
            _signal(worker, signal.SIGTERM)
            if before is not None:
                await self._end_of(worker, before)
            try:
                async with asyncio.timeout(START_SECONDS):
                    await worker.serving.wait()
            except TimeoutError:
                log.error("rolling_restart_stopped", node=worker.node, reason="it does not serve; the rest run on")
                return
        log.info("rolling_restart_done", seconds=round(time.monotonic() - started, 1))

    async def _end_of(self, worker: Worker, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(self._settings.server.drain_seconds + STOP_GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            log.error("worker_killed", node=worker.node, reason="it did not stop in time")
            _signal(worker, signal.SIGKILL)
            await process.wait()
        worker.serving.clear()  # what was set was the old one's


def _signal(worker: Worker, number: signal.Signals) -> None:
    process = worker.process
    if process is not None and process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _ended_well(worker: Worker) -> bool:
    """Of its own will, or before it had anything to put in order."""
    code = worker.process.returncode if worker.process is not None else 0
    return code == 0 or (code == -signal.SIGTERM and not worker.served)


def _without(environment: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Variables may be written in any case."""
    return {name: value for name, value in environment.items() if name.upper() not in names}


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - looked up, not bound


def run_workers(
    settings: Settings,
    count: int,
    games: Sequence[str],
    config: Path | None,
    on_started: Callable[[str, int], None] | None = None,
) -> int:
    """Run a server of several processes until it is told to stop; its exit code."""
    configure_logging(settings.log)

    async def main() -> int:
        return await Supervisor(settings, count, games, config).run(on_started)

    return asyncio.run(main())
