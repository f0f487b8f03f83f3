"""Start a program that dies with its parent: `python launcher.py PARENT_PID PROGRAM ARGUMENT…` (run as a file).

The kernel is asked to kill this process when the thread that started it ends, however it ends; then the program takes
this process over. Asking here, in a fresh interpreter, is safe where doing it between fork and exec of a threaded
server is not. Only Linux can do that: elsewhere the next server on the data folder ends what was left behind.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Be killed when the parent's thread is gone. SIGKILL: a store that hangs must not live on either."""
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, program = int(arguments[0]), arguments[1:]
    die_with_parent()
    if os.getppid() != parent:  # it died before the request took effect
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - a fixed program, no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
