"""Processes that are measured: where they run, what they use, and that they end."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil

from loadtests.run import stop

if TYPE_CHECKING:
    import subprocess


def cores() -> tuple[str | None, str | None]:
    """One core for the server, another for the clients, if there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return (str(usable[0]), str(usable[1])) if len(usable) > 1 else (None, None)


def pinned(command: list[str], core: str | None) -> list[str]:
    """The command, held to a core."""
    return [*(["taskset", "--cpu-list", core] if core else []), *command]


def pin(process: psutil.Process, core: str | None) -> None:
    """Move a running process with all its threads: `cpu_affinity` alone moves only the first of them."""
    if core is None:
        return
    for thread in process.threads():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, {int(core)})


def move_stores(server: psutil.Process) -> list[psutil.Process]:
    """The embedded stores inherit the server's core; in production they are elsewhere, so they go to the other one."""
    stores: list[psutil.Process] = server.children(recursive=True)
    for store in stores:
        pin(store, cores()[1])
    return stores


def cpu_seconds(*processes: psutil.Process) -> float:
    """User and system time of the processes."""
    return sum(float(times.user + times.system) for times in (process.cpu_times() for process in processes))


def machine_cpu_seconds() -> float:
    """User and system time of everything that runs on this machine."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.steal)


def memory_bytes(*processes: psutil.Process) -> int:
    """What they hold in memory. Only of the processes named: the stores of a server are processes of their own."""
    return sum(int(process.memory_info().rss) for process in processes)


@contextlib.contextmanager
def ending(process: subprocess.Popen[Any], *, at_most_seconds: float) -> Iterator[None]:
    """The process is gone when the block ends, however it ends, and it is killed when it takes too long."""
    timer = threading.Timer(at_most_seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        stop(process, 5)


def prepare() -> None:
    """Many connections, and a SIGTERM that runs every `finally`, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
