"""`python -m gameserver.examples.training`: bots play all examples against a server of two workers, for some seconds.

What a compiler that is guided by a profile wants to see (docs/adr/0022). Needs the embedded stores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
import urllib.request

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
CROWDS = {"arena": 60, "battleship": 20, "chatroom": 20}
"""How many bots play what."""


async def train(seconds: float) -> int:
    """Start a server, let the bots play, stop both; the exit code of whatever failed, or 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="gameserver-training-") as folder:
        settings = {"GAMESERVER__DATA__DIR": folder, "GAMESERVER__LOG__LEVEL": "WARNING"}
        arguments = ("-m", "gameserver", "run", "--port", str(port), "--workers", "2")
        server = await asyncio.create_subprocess_exec(sys.executable, *arguments, env={**os.environ, **settings})
        try:
            await asyncio.to_thread(_wait_until_ready, url)
            bots = [await _bots(game, players, url, seconds) for game, players in CROWDS.items()]
            codes = [await crowd.wait() for crowd in bots]
        finally:
            if server.returncode is None:
                server.terminate()
            code = await asyncio.wait_for(server.wait(), STOP_SECONDS)
    return next((failed for failed in (code, *codes) if failed), 0)


async def _bots(game: str, players: int, url: str, seconds: float) -> asyncio.subprocess.Process:
    arguments = (game, "--players", str(players), "--url", url, "--seconds", str(seconds))
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "gameserver.examples.bots", *arguments)


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310 - the server that was started here
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main() -> int:
    """Train for as long as was asked for."""
    parser = argparse.ArgumentParser(prog="python -m gameserver.examples.training", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long the bots play (15)")
    return asyncio.run(train(parser.parse_args().seconds))


if __name__ == "__main__":
    sys.exit(main())
