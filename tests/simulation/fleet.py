"""Several nodes on one store in memory, on virtual time: the real membership, takeover and reassertion, and a host that
is as small as can be. A fault is a fact of the world (a node crashed, paused, cut off); what follows from it is theirs.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import looptime

from gameserver.cluster.choice import ChoicePolicy
from gameserver.cluster.lease import LeaseState
from gameserver.cluster.membership import Membership, Pace
from gameserver.cluster.reassert import Copy, Holding, Reassertion
from gameserver.cluster.takeover import Takeover, TakeoverPolicy
from gameserver.errors import ConfigError, StoreUnavailable
from gameserver.metrics import Metrics
from gameserver.storage import Append, NodeInfo, Outcome, Recovered, SnapshotMeta, Token, encode_snapshot
from tests.simulation.memory_journal import MemoryJournal, MemoryServer

DEADLINE_SECONDS = 0.5
WRITE_SECONDS = 0.05
SAVE_EVERY = 12


@dataclass
class SimMatch:
    """A match whose state is the list of what was ever written to it."""

    token: Token
    log: list[int]
    stored: int
    flying: Append | None = None
    refused: bool = False
    writes: int = 0

    @property
    def version(self) -> int:
        return len(self.log)


class World:
    """The store, the nodes, and what may never happen."""

    def __init__(self, seed: int, **pace: Any) -> None:
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.server = MemoryServer(self.loop.time, seed=seed)
        self.pace = Pace(**pace)
        self.nodes: list[SimNode] = []
        self.acknowledged: dict[str, list[int]] = {}
        self.loss = 0.0
        self.down = False
        self.lost_with_store: set[str] = set()
        self._payloads = 0
        self._overlaps: dict[str, float] = {}

    def node(self, id_: str, **description: Any) -> SimNode:
        one = SimNode(self, id_, description)
        self.nodes.append(one)
        return one

    async def create(self, count: int, owner: SimNode) -> None:
        """Matches that this node runs."""
        for number in range(count):
            match_id = f"m{number}"
            meta = SnapshotMeta("arena", 1, 0, 1)
            token = await MemoryJournal(self.server).create(
                match_id, owner.id, meta=meta, snapshot=encode_snapshot({"log": []}), connected=number % 3
            )
            owner.matches[match_id] = SimMatch(token, [], 0)
            self.acknowledged[match_id] = []

    def next_payload(self) -> int:
        self._payloads += 1
        return self._payloads

    def check_writer(self, writer: SimNode, match_id: str) -> None:
        """Called when a node writes to sockets as owner: nobody else has a lease and believes that it owns the match.

        Where nodes may be adrift a claim can be on its way when the owner is there again: then it is so for a moment.
        """
        if writer.membership.state is not LeaseState.HELD:
            return
        others = [one for one in self.nodes if one is not writer and one.awake and match_id in one.matches]
        owners = [one.id for one in others if one.membership.state is LeaseState.HELD]
        if not owners:
            self._overlaps.pop(match_id, None)
            return
        since = self._overlaps.setdefault(match_id, self.loop.time())
        moment = 1.0 if self.pace.adrift_seconds_max else 0.0
        assert self.loop.time() - since < moment, (
            f"{match_id}: {writer.id} and {owners} both own it at {self.loop.time()}"
        )

    def check_epochs(self) -> None:
        """No two nodes ever believe that they have the same epoch of a match, whatever their leases."""
        seen: dict[tuple[str, int, str], str] = {}
        for one in self.nodes:
            for match_id, match in one.matches.items():
                key = (match_id, match.token.epoch, match.token.store)
                assert seen.setdefault(key, one.id) == one.id, f"{key} is owned by {seen[key]} and {one.id}"

    def check_settled(self, *, all_run: bool = True) -> None:
        """In the limit each match runs once, at its owner, with all that was acknowledged."""
        for match_id, acknowledged in self.acknowledged.items():
            owners = [one for one in self.nodes if one.awake and match_id in one.matches]
            if match_id in self.lost_with_store and not owners:
                continue
            assert len(owners) == 1 or not all_run, f"{match_id} runs at {[one.id for one in owners]}"
            for owner in owners:
                held = self.server.matches[match_id]
                token = owner.matches[match_id].token
                assert (held.node, held.epoch) == (token.node, token.epoch)
                missing = set(acknowledged) - set(owner.matches[match_id].log)
                assert not missing or match_id in self.lost_with_store, f"{match_id} lost {sorted(missing)}"

    async def stop(self) -> None:
        for one in self.nodes:
            await one.crash()


class Way:
    """A node's way to the store: slow, lossy, cut."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._sent_at: dict[Any, float] = {}

    async def request(self) -> None:
        node, world = self._node, self._node.world
        await node.while_paused()
        self._sent_at[asyncio.current_task()] = world.loop.time()
        await asyncio.sleep(world.random.uniform(0.0002, 0.003))
        if node.cut_off or world.down:
            await asyncio.sleep(DEADLINE_SECONDS)
            await node.while_paused()
            raise StoreUnavailable("cut off")
        if world.random.random() < world.loss / 2:
            raise StoreUnavailable("lost on the way")

    async def reply(self) -> None:
        node, world = self._node, self._node.world
        sent_at = self._sent_at.pop(asyncio.current_task())
        await asyncio.sleep(world.random.uniform(0.0002, 0.003))
        await node.while_paused()
        late = world.loop.time() - sent_at > DEADLINE_SECONDS
        if node.cut_off or late or world.random.random() < world.loss / 2:
            raise StoreUnavailable("lost on the way back")


class RenewalJournal(MemoryJournal):
    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class SimNode:
    """One node: matches, and the tasks that look after them."""

    world: World
    id: str
    description: dict[str, Any]
    matches: dict[str, SimMatch] = field(default_factory=dict)
    alive: bool = False
    cut_off: bool = False
    refuses: set[str] = field(default_factory=set)
    draining: bool = False

    def __post_init__(self) -> None:
        self._awake = asyncio.Event()
        self._awake.set()
        self._life: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self.metrics = Metrics()

    # --- the world's side ---------------------------------------------------------------------------------------------
    @property
    def awake(self) -> bool:
        return self.alive and self._awake.is_set()

    def pause(self) -> None:
        self._awake.clear()

    def go_on(self) -> None:
        self._awake.set()

    async def while_paused(self) -> None:
        await self._awake.wait()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._awake.wait()

    # --- life ---------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Begin, as a new process of this id does: as often as it takes."""
        self.alive = True
        while not await self._begin():
            await self.sleep(0.1)

    async def _begin(self) -> bool:
        world, loop = self.world, self.world.loop
        self.journal = RenewalJournal(world.server, Way(self))
        self.membership = Membership(
            lambda: NodeInfo(self.id, self.id, draining=self.draining, matches=len(self.matches), **self.description),
            lambda: RenewalJournal(world.server, Way(self)),
            world.pace, self.metrics, clock=loop.time, wall=loop.time, sleep=self.sleep, threaded=False,
        )  # fmt: skip
        self.membership.on_lost = self.matches.clear
        self.reassertion = Reassertion(self.journal, self.membership.valid, self, self.metrics, sleep=self.sleep)
        self.membership.on_reunited = self.reassertion.look_at_all
        policy = TakeoverPolicy(world.pace.lease_seconds, 4, 2.0, ChoicePolicy(0.3, attempts_max=50))
        self.takeover = Takeover(
            self.journal, self.membership, self, policy, self.metrics,
            reassertion=self.reassertion, clock=loop.time, sleep=self.sleep,
        )  # fmt: skip
        try:
            await self.membership.start()
        except (ConfigError, StoreUnavailable):
            return False
        self.membership.on_gained = self.takeover.hint
        self.reassertion.start()
        await self.takeover.start()
        self._tasks = [asyncio.create_task(self._write_always(), name=f"writer of {self.id}")]
        return True

    def boot(self) -> None:
        """Start in the background."""
        self._life = asyncio.create_task(self.start(), name=f"boot of {self.id}")

    async def crash(self) -> None:
        """The process is gone, in the middle of whatever."""
        if not self.alive:
            return
        self.alive = False
        self.matches.clear()
        inner: list[Any] = [self._life, *self._tasks]
        inner += [self.membership._beating, self.membership._renewing, self.takeover._task, self.reassertion._task]
        tasks = [task for task in inner if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._awake.set()

    # --- what runs matches --------------------------------------------------------------------------------------------
    async def _write_always(self) -> None:
        while True:
            await self.sleep(WRITE_SECONDS)
            try:
                await self._write()
            except StoreUnavailable:
                pass

    async def _write(self) -> None:
        world = self.world
        due = {}
        for match_id, match in self.matches.items():
            if not self.membership.valid():
                return
            world.check_writer(self, match_id)
            if match.refused:
                continue
            if match.flying is None:
                payload = world.next_payload()
                match.log.append(payload)
                match.flying = Append(match.token, match.stored, match.version, repr(payload).encode())
            due[match_id] = match.flying
        if not due:
            return
        outcomes = await self.journal.append(list(due.values()))
        for (match_id, append), outcome in zip(due.items(), outcomes, strict=True):
            match = self.matches.get(match_id)
            if match is None or match.flying is not append:
                continue
            if outcome is Outcome.DONE:
                match.flying, match.stored = None, append.version
                world.acknowledged[match_id].append(match.log[append.version - 1])
            else:
                match.refused = True
                self.reassertion.refused(match_id)
        await self._save()

    async def _save(self) -> None:
        for match_id, match in list(self.matches.items()):
            match.writes += 1
            if match.writes % SAVE_EVERY == 3 and match.flying is None and not match.refused:
                copy = self.copy(match_id)
                assert copy is not None
                await self.journal.save(match.token, match.version, copy.meta, copy.snapshot)

    # --- TakeoverHost, ReassertHost -----------------------------------------------------------------------------------
    def keeps(self, match_id: str) -> bool:
        return match_id in self.matches

    def room(self) -> int:
        return 1000

    def run(self, recovered: Recovered, token: Token) -> bool:
        if token.match_id in self.refuses:
            return False
        log = list(recovered.snapshot["log"])
        for entry in recovered.entries:
            if entry.version > len(log):
                log.append(int(entry.payload))
        assert len(log) == recovered.version
        self.matches[token.match_id] = SimMatch(token, log, recovered.version)
        self.world.check_epochs()
        return True

    def holdings(self) -> Mapping[str, Holding]:
        return {match_id: Holding(match.token, match.stored) for match_id, match in self.matches.items()}

    def copy(self, match_id: str) -> Copy | None:
        match = self.matches.get(match_id)
        if match is None:
            return None
        meta = SnapshotMeta("arena", match.token.epoch, match.version, 1)
        return Copy(meta, encode_snapshot({"log": list(match.log)}))

    def reasserted(self, token: Token, version: int) -> None:
        match = self.matches.get(token.match_id)
        if match is not None:
            match.token, match.stored, match.flying, match.refused = token, version, None, False
            known = set(self.world.acknowledged[token.match_id])
            self.world.acknowledged[token.match_id] += [one for one in match.log[:version] if one not in known]

    def fenced(self, match_id: str) -> None:
        self.matches.pop(match_id, None)


def run_virtually(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on a loop whose time passes only while nothing else is to be done."""
    loop = looptime.new_event_loop(start=1000.0, noop_cycles=0)  # no thread and no socket could end a pause
    try:
        loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def eventually(condition: Callable[[], bool], seconds: float) -> float:
    """Wait on virtual time; how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        assert loop.time() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.005)
    return loop.time() - began
