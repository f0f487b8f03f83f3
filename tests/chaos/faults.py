"""What happens to processes and lines: a plan drawn from a seed, and how each of its faults is done."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests.chaos.fleet import START_SECONDS, STOP_SECONDS, Fleet, Node, stopped
from tests.proxy import Proxy

LEASE_SECONDS = 2.0
DROPPED_REPLIES = 0.05
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

    def begin(self, *victims: Node) -> None:
        """It happens now."""
        self.victims = [victim.name for victim in victims]
        self.at = time.monotonic()


# --- nodes ------------------------------------------------------------------------------------------------------------
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
    struck.begin(*victims)
    for victim in victims:
        await victim.kill()
    await asyncio.sleep(fault.seconds)
    for victim in victims:
        victim.start()
    await asyncio.gather(*(victim.ready() for victim in victims))


async def _pause(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The process does not run for a while, and does not know."""
    struck.takeover = _goes_on_elsewhere(fleet, fault)
    struck.begin(victim)
    with stopped(victim.pid):
        await asyncio.sleep(fault.seconds)
    await victim.ready()


async def _drain_by_signal(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.begin(victim)
    await _stop_and_restart(victim, fault.seconds)


async def _drain_by_command(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.begin(victim)
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
    await _stop_and_restart(victim, fault.seconds)


async def _roll(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """All nodes are restarted, one after the other: what a deploy does."""
    struck.begin(*fleet.nodes)
    for node in fleet.nodes:
        await _stop_and_restart(node, fault.seconds)


async def _stop_and_restart(node: Node, away_seconds: float) -> None:
    code = await node.stop()
    assert code == 0, f"{node.name} ended with {code}:\n{node.log_end()}"
    await asyncio.sleep(away_seconds)
    await node.restart()


# --- one node's line to Redis -----------------------------------------------------------------------------------------
@contextlib.contextmanager
def _cut(line: Proxy) -> Iterator[None]:
    """Its connections are reset, new ones are refused."""
    line.refuse = True
    line.reset()
    try:
        yield
    finally:
        line.refuse = False


@contextlib.contextmanager
def _silent(line: Proxy) -> Iterator[None]:
    """What is sent is swallowed, and at last the connections go."""
    line.stall()
    try:
        yield
    finally:
        line.reset()
        line.resume()


@contextlib.contextmanager
def _late(line: Proxy) -> Iterator[None]:
    """What is sent arrives when all is over: writes of an owner that is none any more."""
    line.stall()
    try:
        yield
    finally:
        line.resume()


@contextlib.contextmanager
def _lossy(line: Proxy) -> Iterator[None]:
    """Some answers, and messages of the bus, are lost, and their connections with them."""
    line.drop_replies = DROPPED_REPLIES
    try:
        yield
    finally:
        line.drop_replies = 0.0


async def _part(
    trouble: Callable[[Proxy], AbstractContextManager[None]],
    fleet: Fleet, victim: Node, fault: Fault, struck: Struck,
) -> None:  # fmt: skip
    """Only this node's line is broken: its clients and all other nodes go on, as if nothing were."""
    assert victim.line is not None, f"{victim.name} has no line of its own"
    struck.takeover = trouble is not _lossy and _goes_on_elsewhere(fleet, fault)
    struck.begin(victim)
    with trouble(victim.line):
        await asyncio.sleep(fault.seconds)
    await victim.ready()


# --- stores -----------------------------------------------------------------------------------------------------------
async def _kill_store(name: str, fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.begin()
    await _restart_store(fleet, name, fault.seconds)


async def _empty_store(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The store comes back with nothing: those who run the matches still have them."""
    struck.begin()
    await _restart_store(fleet, "redis", fault.seconds, lambda: fleet.replace_store(None))


async def _rewind_store(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """The store comes back as it was a while ago, like one that is restored from a backup."""
    copy = fleet.folder / "store-copy"
    fleet.copy_store(copy)
    await asyncio.sleep(fault.seconds)
    struck.begin()
    await _restart_store(fleet, "redis", 0.0, lambda: fleet.replace_store(copy))


async def _restart_store(
    fleet: Fleet, name: str, away_seconds: float, meanwhile: Callable[[], None] = lambda: None
) -> None:
    await fleet.kill_store(name)
    meanwhile()
    await asyncio.sleep(away_seconds)
    await fleet.restart_store(name)
    await fleet.ready()


async def _pause_store(name: str, fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    struck.begin()
    with stopped(fleet.store_pid(name)):
        await asyncio.sleep(fault.seconds)
    await fleet.ready()


async def _kill_owner_while_store_hangs(
    name: str, fleet: Fleet, victim: Node, fault: Fault, struck: Struck
) -> None:
    """What the owner had not journaled was not acknowledged; what it had not recorded others record."""
    with stopped(fleet.store_pid(name)):
        await asyncio.sleep(min(1.0, fault.seconds))
        struck.takeover = name == "mongo"  # nothing is claimed without Redis
        struck.begin(victim)
        await victim.kill()
        await asyncio.sleep(fault.seconds)
    await victim.restart()


async def _kill_owner_and_mongo(fleet: Fleet, victim: Node, fault: Fault, struck: Struck) -> None:
    """Records that were asked for are nowhere but in the journal."""
    await fleet.kill_store("mongo")
    await asyncio.sleep(min(1.0, fault.seconds))
    struck.takeover = True
    struck.begin(victim)
    await victim.kill()
    await asyncio.sleep(fault.seconds)
    await fleet.restart_store("mongo")
    await victim.restart()


def _goes_on_elsewhere(fleet: Fleet, fault: Fault) -> bool:
    """Is the victim away for so long that others take its matches over?"""
    return len(fleet.nodes) > 1 and fault.seconds > 2 * LEASE_SECONDS


LATE = "line late"
Carry = Callable[[Fleet, Node, Fault, Struck], Awaitable[None]]

KINDS: dict[str, tuple[Carry, float, float]] = {
    # how it is done, and between how many seconds it lasts
    "kill owner": (_kill_owner, 0.0, 4.0),
    "kill another node": (_kill_other, 0.0, 2.0),
    "kill two nodes": (_kill_two, 0.0, 4.0),
    "pause node, short": (_pause, 0.2, 1.5),
    "pause node, long": (_pause, 4.5, 7.0),
    "pause node, 10 s": (_pause, 10.0, 10.0),
    "drain by signal": (_drain_by_signal, 0.0, 1.0),
    "drain by command": (_drain_by_command, 0.0, 1.0),
    "line cut, short": (partial(_part, _cut), 0.2, 1.5),
    "line cut, long": (partial(_part, _cut), 4.5, 8.0),
    "line silent": (partial(_part, _silent), 4.5, 8.0),
    LATE: (partial(_part, _late), 4.5, 8.0),
    "line loses replies": (partial(_part, _lossy), 3.0, 6.0),
    "kill store": (partial(_kill_store, "redis"), 0.0, 3.0),
    "pause store": (partial(_pause_store, "redis"), 0.5, 6.0),
    "store comes back empty": (_empty_store, 0.0, 1.0),
    "store comes back older": (_rewind_store, 0.5, 2.0),
    "kill owner, store hangs": (partial(_kill_owner_while_store_hangs, "redis"), 0.3, 3.0),
    "kill mongo": (partial(_kill_store, "mongo"), 0.0, 4.0),
    "pause mongo": (partial(_pause_store, "mongo"), 0.5, 6.0),
    "kill owner, mongo hangs": (partial(_kill_owner_while_store_hangs, "mongo"), 0.3, 4.0),
    "kill owner and mongo": (_kill_owner_and_mongo, 0.3, 4.0),
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
