"""What happens to processes: a plan drawn from a seed, and how each of its faults is done."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from tests.chaos.fleet import START_SECONDS, STOP_SECONDS, Fleet, Node, stopped

LEASE_SECONDS = 2.0
DRAIN_COMMAND_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. `match`: which match's owner (or another node) it happens to."""

    kind: str
    match: int
    after_seconds: float
    seconds: float
    """How long something is stopped, or away before it is started again."""


@dataclass(slots=True)
class Struck:
    """What a fault has touched."""

    fault: Fault
    victims: list[str] = field(default_factory=list)
    """Nodes whose own connections may be lost by it."""
    at: float = 0.0
    takeover: bool = False
    """The victims' matches must go on under another owner, without anybody's help."""


async def _kill_owner(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.takeover = True
    await _kill_and_restart([victim], fault, struck)


async def _kill_other(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """A node that does not run the match: at most an edge of it."""
    others = [node for node in fleet.nodes if node is not victim]
    await _kill_and_restart([others[fault.match % len(others)]] if others else [victim], fault, struck)


async def _kill_two(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The owner and one more, one after the other."""
    others = [node for node in fleet.nodes if node is not victim]
    struck.takeover = len(fleet.nodes) > 2
    await _kill_and_restart([victim, *others[:1]], fault, struck)


async def _kill_and_restart(victims: list[Node], fault: Fault, struck: Struck) -> None:
    struck.victims = [victim.name for victim in victims]
    struck.at = time.monotonic()
    for victim in victims:
        await victim.kill()
    await asyncio.sleep(fault.seconds)
    for victim in victims:
        victim.start()
    await asyncio.gather(*(victim.ready() for victim in victims))


async def _pause(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The process does not run for a while, and does not know."""
    struck.victims = [victim.name]
    struck.takeover = len(fleet.nodes) > 1 and fault.seconds > 2 * LEASE_SECONDS
    struck.at = time.monotonic()
    with stopped(victim.pid):
        await asyncio.sleep(fault.seconds)
    await victim.ready()


async def _drain_by_signal(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.victims = [victim.name]
    struck.at = time.monotonic()
    code = await victim.stop()
    assert code == 0, f"{victim.name} ended with {code}:\n{victim.log_end()}"
    await asyncio.sleep(fault.seconds)
    await victim.restart()


async def _drain_by_command(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.victims = [victim.name]
    struck.at = time.monotonic()
    arguments = ("-m", "gameserver", "drain", *((victim.name,) if len(fleet.nodes) > 1 else ()), "--url")
    asked = next((node for node in fleet.nodes if node is not victim), victim)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, asked.url, cwd=fleet.folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DRAIN_COMMAND_SECONDS):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode(errors="replace")
    assert await victim.stop() == 0, victim.log_end()
    await asyncio.sleep(fault.seconds)
    await victim.restart()


async def _kill_store(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.at = time.monotonic()
    await fleet.kill_store()
    await asyncio.sleep(fault.seconds)
    await fleet.restart_store()
    await fleet.ready()


async def _empty_store(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The store comes back with nothing: those who run the matches still have them."""
    struck.at = time.monotonic()
    await fleet.kill_store()
    fleet.replace_store(None)
    await asyncio.sleep(fault.seconds)
    await fleet.restart_store()
    await fleet.ready()


async def _rewind_store(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The store comes back as it was a while ago, like one that is restored from a backup."""
    copy = fleet.folder / "store-copy"
    fleet.copy_store(copy)
    await asyncio.sleep(fault.seconds)
    struck.at = time.monotonic()
    await fleet.kill_store()
    fleet.replace_store(copy)
    await fleet.restart_store()
    await fleet.ready()


async def _pause_store(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.at = time.monotonic()
    with stopped(fleet.store_pid):
        await asyncio.sleep(fault.seconds)
    await fleet.ready()


async def _kill_owner_without_store(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The owner dies while the store hangs: what it had not journaled was not acknowledged either."""
    struck.victims = [victim.name]
    struck.at = time.monotonic()
    with stopped(fleet.store_pid):
        await asyncio.sleep(min(1.0, fault.seconds))
        await victim.kill()
        await asyncio.sleep(fault.seconds)
    await victim.restart()


async def _roll(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """All nodes are restarted, one after the other: what a deploy does."""
    struck.victims = [node.name for node in fleet.nodes]
    struck.at = time.monotonic()
    for node in fleet.nodes:
        code = await node.stop()
        assert code == 0, f"{node.name} ended with {code}:\n{node.log_end()}"
        await node.restart()


Carry = Callable[[Fleet, Node, Fault, Struck], Awaitable[None]]

KINDS: dict[str, tuple[Carry, float, float]] = {
    # how it is done, and between how many seconds it lasts
    "kill owner": (_kill_owner, 0.0, 4.0),
    "kill another node": (_kill_other, 0.0, 2.0),
    "kill two nodes": (_kill_two, 0.0, 4.0),
    "pause node, short": (_pause, 0.2, 1.5),
    "pause node, long": (_pause, 4.5, 7.0),
    "drain by signal": (_drain_by_signal, 0.0, 1.0),
    "drain by command": (_drain_by_command, 0.0, 1.0),
    "kill store": (_kill_store, 0.0, 3.0),
    "pause store": (_pause_store, 0.5, 6.0),
    "store comes back empty": (_empty_store, 0.0, 1.0),
    "store comes back older": (_rewind_store, 0.5, 2.0),
    "kill owner, store hangs": (_kill_owner_without_store, 0.3, 3.0),
    "pause node, 10 s": (_pause, 10.0, 10.0),
}
ROLLING = "rolling restart"
ALL = {**KINDS, ROLLING: (_roll, 0.0, 0.0)}


def plan(random: Random, rounds: int, matches: int, kinds: list[str] | None = None) -> Iterator[Fault]:
    """So many faults; every kind comes once before any comes again."""
    deck: list[str] = []
    for _ in range(rounds):
        if not deck:
            deck = list(kinds or KINDS)
            random.shuffle(deck)
        kind = deck.pop()
        _, shortest, longest = ALL[kind]
        yield Fault(kind, random.randrange(matches), random.uniform(0.3, 1.5), random.uniform(shortest, longest))


async def strike(fleet: Fleet, match_id: str, fault: Fault, struck: Struck) -> None:
    """Do it, and undo it: afterwards all processes run."""
    victim = await fleet.owner(match_id)
    await asyncio.sleep(fault.after_seconds)
    carry_out, _, _ = ALL[fault.kind]
    async with asyncio.timeout(fault.seconds + 2 * (START_SECONDS + STOP_SECONDS)):
        await carry_out(fleet, victim, fault, struck)


def continue_all(fleet: Fleet) -> None:
    """Nothing stays stopped, whatever was interrupted."""
    for node in fleet.nodes:
        if node.process is not None and node.process.poll() is None:
            node.signal(signal.SIGCONT)
