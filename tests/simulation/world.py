"""Servers, players, a store, and what happens to them, decided by one seed. What must hold is checked here."""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from gameserver.cluster.hosted import HostedMatch
from gameserver.cluster.lease import LeaseState
from gameserver.config import Settings
from gameserver.state import to_plain
from gameserver.storage import Append, Outcome
from tests.simulation.loops import Timeline
from tests.simulation.memory_journal import HeldMatch, MemoryServer
from tests.simulation.network import SimWire, Weather
from tests.simulation.players import Maker, Player
from tests.simulation.servers import ServerProcess

SETTLE_SECONDS = 90.0
OVERLAP_SECONDS = 1.0  # for so long a node that was adrift may not know yet that another one has claimed its matches
EXPECTED_ERRORS = frozenset({"lease_lost", "journal_refused", "match_stands_still", "match_not_created_in_store",
                             "journal_unfinished", "final_snapshots_unfinished"})  # fmt: skip


class Broken(AssertionError):
    """Something that must hold does not."""


@dataclass(slots=True)
class Risk:
    """A store that was rewound has less of a match than its owner."""

    owner: ServerProcess | None
    epoch: int
    version: int
    left: tuple[int, str] | None
    """Epoch and claimant that the store was left with; None: it has no such match."""
    hurt: bool
    """Something else happened to the owner, or to its way to the store: then what the store lost may be lost."""


class World:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(f"{seed}:world")
        random.seed(f"{seed}:sdk")  # the SDK draws its pauses from there
        self.timeline = Timeline()
        self.store_loop = self.timeline.process("store")
        self.players_loop = self.timeline.process("players")
        self.loop = self.timeline.process("world")
        self.weather = Weather()
        self.server = MemoryServer(self.store_loop.time, seed=seed)
        self.wire = SimWire(self.store_loop, self.weather, random.Random(f"{seed}:bus"))
        self.store_session = 0
        self.servers: dict[str, ServerProcess] = {}
        self.everyone: list[ServerProcess] = []
        self.processes = 0
        self.players: list[Player] = []
        self.matches: dict[str, str] = {}
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()
        self.history = 0
        """Counts how often the store was rewound or emptied."""
        self.secret = Settings().auth.secret.get_secret_value()
        self.maker = Maker(self, "maker")
        self.record_keys: set[str | None] = set()
        self._acknowledged: dict[str, dict[int, str]] = {}
        self._sent: dict[str, dict[int, str]] = {}
        self._records: dict[str, set[int]] = {}
        self._excused: dict[str, set[int]] = {}
        self._risks: dict[str, Risk] = {}
        self._writers: dict[tuple[str, int], str] = {}
        self._written: dict[tuple[str, int, int], int] = {}
        self._overlaps: dict[str, float] = {}
        self._broken: list[str] = []

    # --- what is built ------------------------------------------------------------------------------------------------
    def settings(self, roles: tuple[str, ...]) -> Settings:
        """Of every server: as by default, but for what would take too long to be seen here."""
        return Settings(
            cluster={"roles": list(roles), "takeover_attempts_max": 1000},
            match={"journal_interval_ms": 50, "gate_timeout_seconds": 1.5, "unjournaled_ms_max": 5000,
                   "snapshot_interval_seconds": 0.3, "resume_frames_max": 24},
            limits={"send_buffer_bytes_max": 16_384, "slow_consumer_seconds_max": 4, "heartbeat_seconds": 3},
        )  # fmt: skip

    def start_server(self, name: str, roles: tuple[str, ...]) -> ServerProcess:
        """A new process."""
        server = self.servers[name] = ServerProcess(self, name, roles)
        self.everyone.append(server)
        return server

    def add_player(self, name: str, *, spectates: bool = False) -> Player:
        """One more."""
        player = Player(self, name, len(self.players) + 1, spectates=spectates)
        self.players.append(player)
        return player

    async def create(self, game: str) -> str:
        """A match; runs in the players' process."""
        match_id = await self.maker.create(game)
        self.matches[match_id] = game
        return match_id

    def door(self, rng: random.Random) -> ServerProcess | None:
        """Where a load balancer sends a new connection. It may not have noticed that the server there is dead."""
        doors = [server for server in self.servers.values() if "edge" in server.roles]
        ready = [server for server in doors if server.running and not server.stopping]
        return rng.choice(ready if ready and rng.random() < 0.8 else doors) if doors else None

    def some_match(self, rng: random.Random) -> str | None:
        """A match to join."""
        return rng.choice(list(self.matches)) if self.matches else None

    # --- noting -------------------------------------------------------------------------------------------------------
    def note(self, text: str) -> None:
        """For people who read what happened."""
        self.notes.append(f"{self.timeline.now - 1000:8.3f} {text}")

    def fail(self, text: str) -> None:
        """Something that must hold does not."""
        self.note(f"BROKEN {text}")
        self._broken.append(text)

    def raise_broken(self) -> None:
        """Raises what was found so far."""
        broken = [*self._broken, *self.timeline.failures]
        if broken:
            raise Broken("; ".join(broken[:5]))

    def sent(self, match_id: str, name: str, number: int) -> None:
        """A player asks for this."""
        self._sent.setdefault(match_id, {})[number] = name
        self.counts["sent"] += 1

    def acknowledged(self, match_id: str, name: str, number: int) -> None:
        """A player was told that it is done."""
        self._acknowledged.setdefault(match_id, {})[number] = name
        self.counts["acknowledged"] += 1

    def unanswered(self, code: str) -> None:
        """… or that it is not known, or not possible."""
        self.counts[code] += 1

    def recorded(self, match_id: str, number: int) -> None:
        """An effect was carried out."""
        self._records.setdefault(match_id, set()).add(number)

    def twice(self, match_id: str, text: str) -> None:
        """An event came twice: only where there are two histories."""
        if not self.is_forked(match_id) and self.matches.get(match_id) != "loose_diary":
            self.fail(text)

    def was_refused(self, match_id: str, number: int) -> bool:
        """Was this asked for with what a game always refuses?"""
        return self._sent.get(match_id, {}).get(number) == "refuse"

    def not_found(self, match_id: str) -> None:
        """A player was told that there is no such match."""
        if match_id in self.matches and self.server.get(match_id) is None and not self._is_run(match_id):
            self._lost(match_id)

    def is_forked(self, match_id: str) -> bool:
        """May clients have seen what the match has forgotten?"""
        return match_id in self._excused

    # --- one writer ---------------------------------------------------------------------------------------------------
    def wrote(self, process: ServerProcess, match_id: str, epoch: int) -> None:
        """The store took a write of this process."""
        writer = self._writers.setdefault((match_id, epoch), process.id)
        if writer != process.id:
            self.fail(f"{match_id} was written in epoch {epoch} by {writer} and {process.id}")

    def appended(self, entry: Append, outcome: Outcome, before: int) -> None:
        """The store answered an append; `before`: the version it had."""
        if outcome is not Outcome.DONE:
            return
        key = (entry.token.match_id, entry.token.epoch, entry.version)
        payload = zlib.crc32(entry.payload)
        if entry.version > before and entry.base > before:
            self.fail(f"{entry.token.match_id}: {entry.version} was stored on {before}, not on {entry.base}")
        if self._written.setdefault(key, payload) != payload:
            self.fail(f"{entry.token.match_id}: version {entry.version} was written twice, and differs")

    def check_owners(self) -> None:
        """No two nodes believe for long that they own the same match."""
        now = self.timeline.now
        owners: dict[str, list[str]] = {}
        for server in self.servers.values():
            if server.running and server.node.membership.state is LeaseState.HELD:
                for hosted in server.node.host:
                    if not hosted.closed:
                        owners.setdefault(hosted.match_id, []).append(server.id)
        twice = {match_id for match_id, found in owners.items() if len(found) > 1}
        for match_id in [one for one in self._overlaps if one not in twice]:
            del self._overlaps[match_id]
        for match_id in twice:
            since = self._overlaps.setdefault(match_id, now)
            calm = not (self.weather.slow or self.weather.lost or self.weather.refused or self.store_loop.paused)
            if calm and now - since > OVERLAP_SECONDS and not self.is_forked(match_id):
                self.fail(f"{match_id} is run by {owners[match_id]}")
            elif not calm:
                self._overlaps[match_id] = now

    # --- what a store has lost ----------------------------------------------------------------------------------------
    def store_lost(self, before: Mapping[str, HeldMatch]) -> None:
        """The store was rewound or emptied; `before` is what it had."""
        self.history += 1
        bad_way = bool(self.weather.lost or self.weather.slow or self.weather.refused)
        bad_way |= any(server.alive and not server.listening for server in self.servers.values())
        for match_id, had in before.items():
            has = self.server.matches.get(match_id)
            if has is not None and (has.epoch, has.version, has.state) == (had.epoch, had.version, had.state):
                continue
            owner = self._owner_of(match_id)
            left = None if has is None else (has.epoch, has.by)
            earlier = self._risks.get(match_id)
            risk = Risk(owner, had.epoch, had.version, left, hurt=bad_way or owner is None)
            risk.hurt |= earlier is not None
            self._risks[match_id] = risk
            if owner is None:
                self._fork(match_id, risk)

    def hurt(self, server: ServerProcess | None = None) -> None:
        """Something happens to this server (or to all of them, or their way)."""
        for risk in self._risks.values():
            if server is None or risk.owner is server:
                risk.hurt = True

    def examine(self, process: ServerProcess) -> None:
        """The store has done something for this process."""
        for match_id, risk in list(self._risks.items()):
            has = self.server.matches.get(match_id)
            if has is None:
                continue
            if process is risk.owner and has.version >= risk.version:
                del self._risks[match_id]
            elif (has.epoch, has.by) != risk.left:
                self._fork(match_id, risk)

    def _fork(self, match_id: str, risk: Risk) -> None:
        self._risks.pop(match_id, None)
        self._excused.setdefault(match_id, set()).update(self._sent.get(match_id, ()))
        self.note(f"{match_id} goes on from what the store had left")
        if not risk.hurt:
            self.fail(f"{match_id} lost what its owner {risk.owner} had, and nothing had happened to that")

    def _lost(self, match_id: str) -> None:
        risk = self._risks.pop(match_id, None)
        if risk is None and self.history == 0:
            self.fail(f"{match_id} is lost")
        elif risk is not None and not risk.hurt:
            self.fail(f"{match_id} was lost with the store, though {risk.owner} had it")
        self.note(f"{match_id} is lost with the store")
        del self.matches[match_id]

    def _owner_of(self, match_id: str) -> ServerProcess | None:
        for server in self.servers.values():
            hosted = server.node.host.local(match_id) if server.running and not server.stopping else None
            if hosted is not None and not hosted.closed and server.node.membership.state is LeaseState.HELD:
                return server
        return None

    def _is_run(self, match_id: str) -> bool:
        return any(server.alive and server.listening and match_id in server.node.host for server in self.everyone)

    # --- in the end ---------------------------------------------------------------------------------------------------
    async def settle(self) -> None:
        """Nothing happens any more: everybody comes to rest, and then everything fits."""
        for player in self.players:
            player.acting = False
        deadline = self.timeline.now + SETTLE_SECONDS
        left = set(self.players)
        while left:
            self.raise_broken()
            for hosted in self._hosted():
                hosted.flush()
            await asyncio.sleep(0.017)
            left = {player for player in left if not self._fits(player)}
            if self.timeline.now > deadline:
                stuck = sorted(player.describe() for player in left)
                raise Broken("not settled: " + "; ".join(stuck + [self._difference(player) for player in left]))
        await asyncio.sleep(4.0)  # timers ring, effects are carried out, who is idle sleeps
        for match_id in list(self.matches):
            self._check_match(match_id)
        self.raise_broken()
        for player in self.players:
            player.acting = True

    def _hosted(self) -> Iterator[HostedMatch]:
        for server in self.servers.values():
            if server.running:
                yield from self.timeline.within(server.loop, lambda server=server: list(server.node.host))

    def _fits(self, player: Player) -> bool:
        if not self.matches:
            return True  # an empty store, and nobody who remembers
        return not player.unsettled and self._difference(player) == ""

    def _difference(self, player: Player) -> str:
        room = player.room
        if room is None or room.closed:
            return "no room"
        owners = self._owners(room.match_id)
        if len(owners) != 1:
            return f"{room.match_id} is run by {owners}"
        hosted = owners[0].node.host.get(room.match_id)
        epoch, version = room.position  # a version that changes nothing for it is not sent to it
        if epoch != hosted.match.epoch or version > hosted.match.version:
            return f"{player.name} is at {room.position}, not {(hosted.match.epoch, hosted.match.version)}"
        viewer = "*spectators" if player.spectates else player.name
        mine, theirs = to_plain(room.state), hosted.match.tree.view(viewer)
        return "" if mine == theirs else f"{player.name} sees {mine} and not {theirs}"

    def _owners(self, match_id: str) -> list[ServerProcess]:
        serving = (server for server in self.everyone if server.alive and server.listening)
        return [server for server in serving if match_id in server.node.host]

    def _check_match(self, match_id: str) -> None:
        held, owners = self.server.get(match_id), self._owners(match_id)
        if held is None and not owners:
            self._lost(match_id)
            return
        if held is None or len(owners) > 1:
            self.fail(f"{match_id} is run by {owners}, the store has {held and held.state}")
        elif not owners:
            if held.state != "asleep":
                self.fail(f"{match_id} is {held.state} at {held.node!r}, and nobody runs it")
        else:
            [owner] = owners
            hosted = owner.node.host.get(match_id)
            if (held.node, held.epoch) != (owner.name, hosted.match.epoch):
                self.fail(f"{match_id}: the store has {held.node} {held.epoch}, it is run by {owner}")
            self._check_log(match_id, hosted)

    def _check_log(self, match_id: str, hosted: HostedMatch) -> None:
        game = hosted.match.game
        log, rung, heard = list(game.done), list(game.rung), list(game.heard)
        for what, numbers in (("done", log), ("rung", rung), ("heard", heard)):
            twice = [one for one, count in Counter(numbers).items() if count > 1 and not self._may_be_done_again(one)]
            if twice:
                self.fail(f"{match_id}: {what} twice: {twice}")
        sent = self._sent.get(match_id, {})
        if refused := [number for number in log if sent.get(number) == "refuse"]:
            self.fail(f"{match_id}: done though refused: {refused}")
        if strange := [number for number in log if number not in sent]:
            self.fail(f"{match_id}: done and never asked for: {strange}")
        if hosted.game == "loose_diary":
            return
        excused = self._excused.get(match_id, set())
        known = {number: name for number, name in self._acknowledged.get(match_id, {}).items() if number not in excused}
        if lost := known.keys() - set(log):
            self.fail(f"{match_id}: acknowledged and lost: {sorted(lost)}")
        if silent := {number for number, name in known.items() if name == "later"} - set(rung):
            self.fail(f"{match_id}: never rung: {sorted(silent)}")
        records = self._records.get(match_id, set())
        if missing := {number for number, name in known.items() if name == "put" and number % 7 == 0} - records:
            self.fail(f"{match_id}: effects never carried out: {sorted(missing)}")
        if forgotten := records - set(log) - excused:
            self.fail(f"{match_id}: effects of what is lost: {sorted(forgotten)}")

    def _may_be_done_again(self, number: int) -> bool:
        """Where its match forgets what was done, and what it published stays said."""
        return any(
            number in sent and (self.matches.get(match_id) in (None, "loose_diary") or self.is_forked(match_id))
            for match_id, sent in self._sent.items()
        )

    def fingerprint(self) -> tuple[int, int]:
        """The same in each run of the same seed."""
        return self.timeline.steps, zlib.crc32("\n".join(self.notes).encode())


class _Failures(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.fail(f"logged: {record.getMessage()} {record.exc_info and repr(record.exc_info[1])}")


@contextmanager
def errors_fail(world: World) -> Iterator[None]:
    """What a server logs as an error is one, unless it says what was done to it."""

    def look(logger: Any, level: str, event: dict[str, Any]) -> Any:
        process = getattr(asyncio._get_running_loop(), "name", "?")
        failure = event.get("exc_info")
        if level == "error" and (event["event"] not in EXPECTED_ERRORS or failure):
            world.fail(f"{process} logged {event} {_where(failure)}")
        elif level in ("error", "warning") and event["event"] != "tick_overrun":  # told of the machine's own time
            world.note(f"{process} {event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    handler = _Failures(world)
    structlog.configure(processors=[look], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        structlog.configure(**before)
        logging.getLogger().removeHandler(handler)


def _where(failure: Any) -> str:
    if not isinstance(failure, BaseException):
        return ""
    return "".join(traceback.format_exception(failure)[-3:])
