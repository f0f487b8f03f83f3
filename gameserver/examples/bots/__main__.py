"""`python -m gameserver.examples.bots arena --players 20 --url http://127.0.0.1:8000 --seconds 60`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gameserver.errors import GameServerError
from gameserver.examples.bots.players import BOTS, Bot
from gameserver.examples.bots.report import Report

START_GAP_SECONDS = 0.02  # a crowd that comes through the door, not all of it at the same instant
LINE_SECONDS = 0.5


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m gameserver.examples.bots", description="Let bots play.")
    parser.add_argument("game", choices=sorted(BOTS), help="what they play")
    parser.add_argument("--players", type=int, default=10, help="how many (10)")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the server is (http://127.0.0.1:8000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; Ctrl-C ends it earlier (60)")
    asked = parser.parse_args(arguments)
    if asked.players < 1 or asked.seconds <= 0:
        parser.error("--players and --seconds must be above zero")
    return asked


async def play(game: str, players: int, url: str, seconds: float, report: Report, console: Console) -> str | None:
    """Run the bots; the answer is None, or why they all gave up."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # not on this platform, or not the main thread
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bots: list[asyncio.Task[None]] = []

    async def start() -> None:
        for number in range(1, players + 1):
            bots.append(asyncio.create_task(run(BOTS[game](number, url, report), reasons)))
            await asyncio.sleep(START_GAP_SECONDS)

    reasons: list[str] = []
    starting = asyncio.create_task(start())
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        line = progress.add_task("starting …", total=None)
        while not stop.is_set() and report.seconds < seconds and not (starting.done() and all(b.done() for b in bots)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(LINE_SECONDS, seconds))
            progress.update(line, description=report.line())
    for task in (starting, *bots):
        task.cancel()
    await asyncio.gather(starting, *bots, return_exceptions=True)
    return reasons[0] if len(reasons) == players else None


async def run(bot: Bot, reasons: list[str]) -> None:
    """Let one bot play, and note why it stopped by itself."""
    try:
        await bot.run()
    except GameServerError as error:
        reasons.append(error.message)


def main(arguments: list[str] | None = None) -> int:
    """Play, then say what happened."""
    asked = parse(arguments)
    console, report = Console(), Report()
    reason = asyncio.run(play(asked.game, asked.players, asked.url, asked.seconds, report, console))
    if reason is not None:
        console.print(f"[red]no bot could play:[/red] {reason}", highlight=False, soft_wrap=True)
        return 1
    report.print_summary(console)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
