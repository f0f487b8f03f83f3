"""Locks on the data folder, held by the kernel for as long as a process lives and not a moment longer."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Self

from gameserver.errors import DataFolderInUse

RETRY_SECONDS = 0.02


class FileLock:
    """An exclusive `flock` on a file that also tells who holds it.

    The lock belongs to the open file: child processes that inherit the descriptor hold it too, and it is free when the
    last of them is gone. The file itself stays; removing it would let two holders lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    async def acquire(self, seconds: float) -> bool:
        """Take the lock, waiting up to this long."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.try_acquire():
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(RETRY_SECONDS)
        return True

    @property
    def descriptor(self) -> int:
        """The open file, to be inherited by a child that should hold the lock."""
        assert self._descriptor is not None, "the lock is not held"  # noqa: S101 - a mistake in this room only
        return self._descriptor

    def write_pid(self, pid: int) -> None:
        """Note who holds the lock, for messages and for ending an orphan."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n".encode(), 0)

    def read_pid(self) -> int | None:
        """Who holds the lock, as far as the file tells."""
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return None

    def release(self) -> None:
        """Close our hold; children that inherited it keep theirs."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class DataFolder:
    """The folder of one server: locked from `open` to `close`."""

    WAIT_SECONDS = 1.0  # a server that was just killed takes a moment to be gone

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = FileLock(self.path / "lock")

    async def open(self) -> Self:
        """Make the folder if need be and lock it; raises `DataFolderInUse` naming the other server."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not await self._lock.acquire(self.WAIT_SECONDS):
            pid = self._lock.read_pid()
            holder = f"the server with process id {pid}" if pid else "another server"
            raise DataFolderInUse(
                f"The data folder {self.path} is in use by {holder}: stop it, "
                "or give this server a folder of its own (data.dir, GAMESERVER__DATA__DIR)."
            )
        self._lock.write_pid(os.getpid())
        return self

    def close(self) -> None:
        """Let the next server in."""
        self._lock.release()
