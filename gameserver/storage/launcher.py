"""Start a program that dies with its parent: `python launcher.py PARENT_PID SIGNAL PROGRAM ARGUMENT…` (run as a file).

The kernel is asked to send this process the signal when the thread that started it ends, however it ends; then the
program takes this process over. Asking here, in a fresh interpreter, is safe where doing it between fork and exec of a
threaded server is not. A program that may end in good order (a signal other than SIGKILL) is left a watchdog, which
kills it when it does not: a store that hangs must not live on. Only Linux can do that: elsewhere the next server on
the data folder ends what was left behind.
"""

from __future__ import annotations

import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 2.5


def die_with_parent(death_signal: int) -> None:
    """Be sent the signal when the parent's thread is gone."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def leave_watchdog(parent: int) -> None:
    """A process beside this one that kills it when it outlives the parent by `GRACE_SECONDS`."""
    program = os.getpid()
    if os.fork() == 0:
        try:
            watch(parent, program)
        finally:
            os._exit(0)


def watch(parent: int, program: int) -> None:
    """Wait for the end of either; see that the program follows its parent."""
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))  # the lock on the data folder is the program's alone
    of_program, of_parent = os.pidfd_open(program), os.pidfd_open(parent)
    ended, _, _ = select.select([of_program, of_parent], [], [])
    if of_program not in ended and not select.select([of_program], [], [], GRACE_SECONDS)[0]:
        signal.pidfd_send_signal(of_program, signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, death_signal, program = int(arguments[0]), int(arguments[1]), arguments[2:]
    if sys.platform == "linux":
        die_with_parent(death_signal)
    if os.getppid() != parent:  # it died before the request took effect
        sys.exit(1)
    if sys.platform == "linux" and death_signal != signal.SIGKILL:
        leave_watchdog(parent)
    os.execv(program[0], program)  # noqa: S606 - a fixed program, no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
