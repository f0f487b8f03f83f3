"""The matches that this node runs: made, brought back, looked after while they run, and saved at the end."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.cluster.handover import ASLEEP_AT
from gameserver.cluster.hosted import HostedMatch
from gameserver.cluster.wakes import SLOT_SECONDS
from gameserver.errors import (
    GameServerError,
    InternalError,
    LimitReached,
    MatchNotFound,
    ServerDraining,
    StoreUnavailable,
)
from gameserver.match import Match, decode_records

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from gameserver.cluster.archive import Archive
    from gameserver.cluster.crossing import Crossing
    from gameserver.cluster.games import GameRegistry
    from gameserver.cluster.journal import JournalWriter
    from gameserver.cluster.services import Services
    from gameserver.cluster.snapshots import Snapshotter
    from gameserver.cluster.topics import Topics
    from gameserver.match import Game
    from gameserver.storage import Recovered, Token

log = structlog.get_logger("gameserver.cluster")

CATCH_UP_SECONDS = 0.05  # how often lagging connections are looked at, while there are any
WITHIN_SLOT_SECONDS = SLOT_SECONDS / 2  # in its middle: no rounding puts two of one moment into two slots
TOGETHER_SECONDS = 0.005  # the moments at which matches of one rate tick are so far apart, at most


@dataclass(frozen=True, slots=True)
class HostLimits:
    """How much one node takes on."""

    matches_max: int = 10_000
    overdue_seconds_max: float = 5.0  # a match whose wake is later than this does not progress


class LocalMatches:
    """The matches of this node. Implements `Keeper`: matches report to it. `Host` is built on it."""

    def __init__(self, registry: GameRegistry, limits: HostLimits) -> None:
        self.registry = registry
        self.limits = limits
        self.draining = False
        self.quarantined: dict[str, str] = {}
        self._matches: dict[str, HostedMatch] = {}
        # Matches that may have room, by game and options: a hint, checked on use; what is there is the truth.
        self._open: dict[tuple[str, str], dict[str, HostedMatch]] = {}
        self._channels = 0
        self._catch_up: asyncio.TimerHandle | None = None
        self._services: Services
        self._snapshots: Snapshotter | None = None
        self._archive: Archive | None = None
        self._journal: JournalWriter | None = None
        self._node = ""
        self.bring: Callable[[str], Awaitable[bool]] | None = None
        """Has a match that nobody runs be run here. Whether it is here now."""
        self.is_owner: Callable[[str, str, int], Awaitable[bool]] | None = None
        """See `Takeover.is_owner`; None: there are no other nodes."""
        self.doubted: Callable[[str], None] | None = None
        """A match here may be another node's by now: look into it."""
        self.topics: Topics | None = None
        self.crossing: Crossing | None = None
        """The way to matches that other nodes run; None: there are no other nodes."""

    def attach(
        self,
        services: Services,
        snapshots: Snapshotter | None,
        archive: Archive | None,
        journal: JournalWriter | None = None,
        node: str = "",
    ) -> None:
        """Complete the host: matches and host know each other, so one of the two comes first."""
        self._services, self._snapshots, self._archive = services, snapshots, archive
        self._journal, self._node = journal, node

    # --- finding ------------------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self._matches)

    def __contains__(self, match_id: object) -> bool:
        return match_id in self._matches

    def __iter__(self) -> Iterator[HostedMatch]:
        return iter(self._matches.values())

    def get(self, match_id: str) -> HostedMatch:
        """The match of that id; raises `MatchNotFound`."""
        hosted = self._matches.get(match_id)
        if hosted is None:
            reason = self.quarantined.get(match_id)
            raise MatchNotFound(f"Match {match_id} cannot be run: {reason}" if reason else "")
        return hosted

    def local(self, match_id: str) -> HostedMatch | None:
        """The match of that id, if it runs here."""
        return self._matches.get(match_id)

    def next_channel(self) -> int:
        """A channel number that no match on this node has."""
        self._channels += 1
        return self._channels

    def overdue(self) -> list[tuple[HostedMatch, float]]:
        """Matches whose ticks or timers do not progress, and by how many seconds."""
        now, limit = self._services.clock.now(), self.limits.overdue_seconds_max
        late = ((hosted, hosted.overdue_seconds(now)) for hosted in self._matches.values())
        return [(hosted, seconds) for hosted, seconds in late if seconds > limit]

    @property
    def room(self) -> int:
        """How many more matches may run here. One that has ended counts until the stores know."""
        ending = 0 if self._archive is None else len(self._archive)
        return self.limits.matches_max - len(self._matches) - ending

    # --- making -------------------------------------------------------------------------------------------------------
    def create_match(self, game_name: str, options: dict[str, Any] | None = None) -> HostedMatch:
        """A new match of this game. Raises `GameNotFound`, what its options are refused with, or `LimitReached`."""
        self._refuse_when_draining()
        game = self.registry.get(game_name)
        if not self._services.valid():
            raise StoreUnavailable("This node may not run matches right now, it has no lease: try again.")
        if self.room <= 0:
            raise LimitReached(f"This server runs at most {self.limits.matches_max} matches, and puts ended ones away.")
        services = self._services
        match_id = services.new_match_id()
        journaled = self._journal is not None and game.durability != "snapshot"
        try:
            match = Match.create(
                game,
                match_id,
                options=options or {},
                seed=services.new_seed(),
                now=self._phased(game, match_id),
                wall=services.clock.wall(),
                journaled=journaled,
            )
        except GameServerError:
            raise
        except Exception as failure:
            log.error("match_create_failed", game=game_name, exc_info=failure)
            raise InternalError from None
        services.meters.metrics.matches_created_total.labels(game_name).inc()
        hosted = self._adopt(match, game, options_key(match.options))
        if self._journal is not None:
            hosted.begin_journal(self._node)
        log.info("match_created", match=match_id, game=game_name)
        return hosted

    def run_recovered(self, recovered: Recovered, token: Token) -> HostedMatch | None:
        """Run a match that this node has claimed, from its snapshot and journal: as it was when it was last journaled.

        One that cannot be run is left alone, with a reason.
        """
        match_id, name = token.match_id, recovered.meta.game
        game = self.registry.get(name)
        try:
            match = Match.restore(
                game,
                recovered.snapshot,
                now=self._phased(game, match_id),
                wall=self._services.clock.wall(),
                epoch=token.epoch,
                idle_seconds=slept_seconds(recovered, self._services.clock.wall()),
                journal=records_of(recovered),
                journaled=game.durability != "snapshot",
            )
        except Exception as failure:
            log.error("match_restore_failed", match=match_id, game=name, exc_info=failure)
            self._leave_alone(match_id, f"it cannot be restored: {failure}")
            return None
        self._services.meters.metrics.matches_restored_total.labels(name).inc()
        hosted = self._adopt(match, game, options_key(match.options))
        if self._journal is not None:
            self._journal.adopt(hosted, token, match.version, journaled=hosted.journaled)
        hosted.reissue_effects()
        if match.ended is not None:
            hosted.end_again(match.ended)
            return None
        hosted.disconnect_all()
        if self._snapshots is not None:
            self._snapshots.taken_over(hosted)
        if self.crossing is not None:
            self.crossing.adopted(hosted)
        return hosted

    def _leave_alone(self, match_id: str, reason: str) -> None:
        self.quarantined[match_id] = reason
        log.error("match_not_restored", match=match_id, reason=reason)

    def _adopt(self, match: Match, game: type[Game], key: str) -> HostedMatch:
        before = self._matches.get(match.id)
        if before is not None:  # of an earlier epoch, and about to find that out: two of one match must never be here
            before.fenced()
        # Members that were carried here for another node know the match by a number already.
        channel = None if self.crossing is None else self.crossing.channel_of(match.id)
        channel = self.next_channel() if channel is None else channel
        hosted = HostedMatch(match, game, channel, self._services, options_key=key, journal=self._journal)
        self._matches[hosted.match_id] = hosted
        self._open.setdefault((hosted.game, key), {})[hosted.match_id] = hosted
        if match.topics:
            self.listens(hosted)
        hosted.start()
        return hosted

    def _phased(self, game: type[Game], match_id: str) -> float:
        """When the match's time begins: up to one interval ago, so that matches tick at different moments.

        But some at the same one: what all ticks need is in the processor's caches then, for all but the first.
        """
        now = self._services.clock.now()
        if game.tick_hz <= 0:
            return now
        interval = 1.0 / game.tick_hz
        moments = math.ceil(interval / TOGETHER_SECONDS)
        phase = zlib.crc32(match_id.encode()) % moments * interval / moments + WITHIN_SLOT_SECONDS
        return now - (now - phase) % interval

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise ServerDraining

    # --- Keeper: what matches report ----------------------------------------------------------------------------------
    def unsaved(self, hosted: HostedMatch) -> None:
        """It has changed since its last snapshot."""
        if self._snapshots is not None:
            self._snapshots.changed(hosted)

    def seat_freed(self, hosted: HostedMatch) -> None:
        """Someone left: it may have room."""
        if not hosted.closed:
            self._open.setdefault((hosted.game, hosted.options_key), {})[hosted.match_id] = hosted

    def lagging(self) -> None:
        """A connection lags: look after it until it has drained."""
        if self._catch_up is None:
            clock = self._services.clock
            self._catch_up = clock.call_at(clock.now() + CATCH_UP_SECONDS, self._look_after_lagging)

    def _look_after_lagging(self) -> None:
        self._catch_up = None
        fanout = self._services.fanout
        for member in fanout.drained(self._services.clock.now()):
            member.hosted.catch_up(member)
        if fanout.behind:
            self.lagging()

    def ended(self, hosted: HostedMatch, reason: str) -> None:
        """It is over: its document is written, then its snapshot deleted."""
        self._forget(hosted)
        hosted.collect_counts()
        self._services.meters.metrics.matches_ended_total.labels(hosted.game, reason_label(reason)).inc()
        log.info("match_ended", match=hosted.match_id, game=hosted.game, reason=reason)
        if self._archive is not None:
            self._archive.ended(hosted, reason)

    def listens(self, hosted: HostedMatch) -> None:
        """It listens to other topics than before."""
        if self.topics is not None:
            self.topics.listen(hosted, hosted.match.topics)

    def moved(self, hosted: HostedMatch) -> None:
        """It was let go of, for another node or to sleep."""
        self._forget(hosted)
        hosted.collect_counts()
        log.info("match_left", match=hosted.match_id, game=hosted.game, version=hosted.match.version)

    def fenced(self, hosted: HostedMatch) -> None:
        """Another node owns it now: it goes on there."""
        self._forget(hosted)
        log.warning("match_fenced", match=hosted.match_id, game=hosted.game, epoch=hosted.match.epoch)

    def broken(self, hosted: HostedMatch, reason: str) -> None:
        """It cannot be run any more: its last good snapshot is kept for people to look at."""
        self._forget(hosted)
        self.quarantined[hosted.match_id] = reason
        log.error("match_taken_off", match=hosted.match_id, game=hosted.game, reason=reason)

    def _forget(self, hosted: HostedMatch) -> None:
        self._matches.pop(hosted.match_id, None)
        if self.topics is not None:
            self.topics.listen(hosted, ())
        key = (hosted.game, hosted.options_key)
        candidates = self._open.get(key)
        if candidates is not None:
            candidates.pop(hosted.match_id, None)
            if not candidates:
                del self._open[key]
        if self._snapshots is not None:
            self._snapshots.forget(hosted.match_id)

    def update_metrics(self) -> None:
        """Bring the metrics of matches up to date: what is there is counted when somebody looks."""
        meters = self._services.meters
        metrics = meters.metrics
        seen = {name: [0, 0, 0] for name in self.registry}
        metrics.matches_still.set(sum(hosted.still for hosted in self._matches.values()))
        metrics.records_held.set(sum(hosted.effects_held for hosted in self._matches.values()))
        for hosted in self._matches.values():
            totals = seen[hosted.game]
            totals[0] += 1
            totals[1] += len(hosted.match.players)
            totals[2] += len(hosted.match.watchers)
            hosted.collect_counts()
        for name, (matches, players, spectators) in seen.items():
            metrics.matches.labels(name).set(matches)
            metrics.players.labels(name).set(players)
            metrics.spectators.labels(name).set(spectators)
        meters.collect(self._services.fanout.take_counts())

    # --- stopping -----------------------------------------------------------------------------------------------------
    async def stop(self, seconds: float) -> None:
        """Freeze every match, save it, and let the archive finish; at most so many seconds."""
        self.draining = True
        if self._catch_up is not None:
            self._catch_up.cancel()
            self._catch_up = None
        matches = list(self._matches.values())
        for hosted in matches:
            hosted.flush()  # what was applied is sent before everything stands still
        matches = list(self._matches.values())
        for hosted in matches:
            if not hosted.begin_leaving():
                hosted.freeze()
        if self._snapshots is None:
            return
        await self._snapshots.stop(seconds * 0.2)
        if self._journal is not None and not await self._journal.stop(seconds * 0.4):
            log.error("journal_unfinished", reason="the store did not take it in time")
        try:
            async with asyncio.timeout(seconds * 0.8):
                failed = await self._snapshots.save_all(matches)
                log.info("final_snapshots", saved=len(matches) - failed, failed=failed)
        except TimeoutError:
            log.error("final_snapshots_unfinished", matches=len(matches), seconds=seconds)
        await self._let_go(matches)
        if self._archive is not None:
            await self._archive.close(seconds * 0.2)

    async def _let_go(self, matches: Iterable[HostedMatch]) -> None:
        """Tell the store that nobody runs these any more: whoever comes next may claim them at once."""
        journal = self._journal
        if journal is None:
            return
        try:
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(journal.release(hosted.match_id) for hosted in matches))
        except (GameServerError, TimeoutError) as error:
            log.warning("matches_not_released", error=str(error), consequence="they are claimed after the lease")


def records_of(recovered: Recovered) -> list[list[Any]]:
    """The journal's records after the snapshot, each version once: entries may overlap."""
    records: list[list[Any]] = []
    reached = recovered.meta.version
    for entry in recovered.entries:
        for record in decode_records(entry.payload):
            if record[0] > reached:
                records.append(record)
                reached = record[0]
    return records


def slept_seconds(recovered: Recovered, wall: float) -> float:
    """How long the match was asleep; 0 if it was not. Clocks of different machines may disagree a little."""
    asleep_at = recovered.snapshot.get(ASLEEP_AT)
    if asleep_at is None or recovered.version != recovered.meta.version:
        return 0.0
    return float(max(0.0, wall - asleep_at))


def options_key(options: dict[str, Any]) -> str:
    """Options as a key: joiners who ask for the same options are put together, whatever order they named them in."""
    if not options:
        return ""
    try:
        return json.dumps(options, sort_keys=True, default=repr)
    except TypeError:  # keys that JSON does not have: then only the same order is the same
        return repr(options)


def reason_label(reason: str) -> str:
    """An end's reason as a metric label: the engine's own reasons by name, all that games make up as one."""
    if reason.startswith("game_failed"):
        return "game_failed"
    return reason if reason in ("finished", "empty") else "other"
