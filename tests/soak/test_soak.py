"""A crowd that comes and goes: no match stands still, every action is answered, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.kit import Server
from tests.soak.crowd import Crowd

SEED = int(os.environ.get("SOAK_SEED", "1"))
"""Of who goes where and when; how it meets the server's time is another one each time."""
SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
GAME = Path(__file__).with_name("game.py")
SECRET = "a secret of the soak test, long enough"
SILENCE_SECONDS_MAX = 5.0
"""Without a frame of a match that ticks twenty times a second; machines that run tests are busy."""
EMPTY_SECONDS = 20.0
FILES_MORE_MAX = 24
"""Than before: connections to the stores that were needed meanwhile. Of each visit one would be hundreds."""
GROWTH_MAX = 1.15
"""Of the server's memory, from the first third of the time to the end."""


class Watch:
    """What is looked at while the crowd plays."""

    def __init__(self, server: Server, crowd: Crowd) -> None:
        self.process = psutil.Process(server.process.pid)
        self.rss: list[int] = []
        self.longest: tuple[float, str] = (0.0, "nobody")
        self._server, self._crowd = server, crowd

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            assert self._server.process.poll() is None, self._server.text()[-3000:]
            for guest, seconds in self._crowd.waiting_seconds().items():
                self.longest = max(self.longest, (seconds, guest))
            assert self.longest[0] < SILENCE_SECONDS_MAX, f"{self.longest[1]} hears nothing of its match any more"
            self.rss.append(self.process.memory_info().rss)

    def growth(self) -> float:
        """How much larger it was in the last tenth of the time than at the end of the first third."""
        tenth = max(1, len(self.rss) // 10)
        early = self.rss[len(self.rss) // 3 :][:tenth]
        return (sum(self.rss[-tenth:]) / tenth) / (sum(early) / len(early))


def metrics(server: Server) -> dict[str, float]:
    """All samples of `/metrics`, summed over their labels."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:  # noqa: S310 - our own server
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("gameserver_")
            found[name] = found.get(name, 0.0) + sample.value
    return found


async def soak(folder: Path, seconds: float, *, rooms: int, guests: int, stay_seconds: float) -> Watch:
    """Let them play; afterwards the server must be as empty as it was. Answers what was seen meanwhile."""
    print(f"SOAK_SEED={SEED}")  # noqa: T201 - shown when it fails
    settings = {"GAMESERVER__AUTH__SECRET": SECRET, "GAMESERVER__LOG__LEVEL": "WARNING"}
    with Server(folder, str(GAME), **settings) as server:
        server.wait_until_ready()
        files = psutil.Process(server.process.pid).num_fds()
        crowd = Crowd(server.url, SECRET, SEED, rooms=rooms, guests=guests, acts_per_second=2.0)
        watch = Watch(server, crowd)
        watching = asyncio.create_task(watch.run())
        playing = asyncio.create_task(crowd.play(seconds, stay_seconds=stay_seconds))
        try:
            await asyncio.wait((watching, playing), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching  # says what it saw
            await playing
        finally:
            watching.cancel()
            playing.cancel()
            await asyncio.gather(watching, playing, return_exceptions=True)
        troubles = [f"{guest.name}: {trouble}" for guest in crowd.guests for trouble in guest.troubles]
        assert not troubles, troubles[:10]
        expected = {"connections_open": 0, "players": 0, "matches": 0, "records_queued": 0, "game_errors_total": 0}
        deadline = time.monotonic() + EMPTY_SECONDS
        while {name: (now := metrics(server)).get(name, 0.0) for name in expected} != expected:
            assert time.monotonic() < deadline, {name: now.get(name) for name in expected}
            await asyncio.sleep(0.25)
        assert now["actions_total"] > guests * seconds / 2, "they hardly played"
        assert watch.process.num_fds() <= files + FILES_MORE_MAX, "files stay open"
        assert server.stop()[0] == 0
        assert "error" not in server.text(), server.text()[-3000:]
    visits = sum(guest.visits for guest in crowd.guests)
    frames = sum(guest.frames for guest in crowd.guests)
    print(  # noqa: T201 - what `make soak` shows
        f"{guests} guests, {visits} visits, {frames} frames; longest silence "
        f"{max(guest.silence_seconds for guest in crowd.guests):.2f} s; memory {watch.rss[-1] / 1e6:.0f} MB, "
        f"× {watch.growth():.3f}"
    )
    return watch


@pytest.mark.slow
async def test_nobody_stands_still(tmp_path: Path) -> None:
    """Long enough for an alarm of a match to get lost, if one can be."""
    await soak(tmp_path, 20.0, rooms=60, guests=150, stay_seconds=8.0)


@pytest.mark.soak
async def test_nothing_grows(tmp_path: Path) -> None:
    """The same for minutes (`SOAK_SECONDS`, 600): matches end and begin, and the memory stays what it was."""
    watch = await soak(tmp_path, SECONDS, rooms=60, guests=300, stay_seconds=20.0)
    assert watch.growth() <= GROWTH_MAX, f"{watch.rss[len(watch.rss) // 3]} bytes became {watch.rss[-1]}"
