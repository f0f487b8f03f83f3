"""What a match on this node rests on: its timer, when it is flushed, and what happens when it fails.

All of it, with what is built on it (`hosted_output.py`, `hosted.py`), is synchronous, between two turns of the event
loop. A match that fails, in its game's code or in ours, is its own problem: nothing is raised into the loop or into
another match's work.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import structlog

from gameserver.cluster.gate import JournalGate, SnapshotGate
from gameserver.cluster.member import Member, Seating
from gameserver.cluster.recent import RecentFrames
from gameserver.cluster.wakes import Alarm
from gameserver.errors import (
    GameServerError,
    InternalError,
)
from gameserver.match import MatchCounts, game_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.cluster.delivery import Gated
    from gameserver.cluster.gate import Gate
    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.journal import JournalWriter
    from gameserver.cluster.owner import EdgeFan
    from gameserver.cluster.services import Services
    from gameserver.cluster.wakes import Wakes
    from gameserver.match import Args, Effect, Game, Match, MatchOutput
    from gameserver.storage import Token

log = structlog.get_logger("gameserver.cluster")

ENGINE_RETRY_SECONDS = 0.05
ENGINE_FAILURES_MAX = 3  # in a row, of our own code around one match, before it is taken off this node
WAKE_SLACK_SECONDS = 0.0005  # a timer that is this much early is as good as on time
OVERRUN_LOG_SECONDS = 10.0


class MatchAlarm(Alarm):
    """Wakes a match, without a bound method for each: no cache holds that when it rings."""

    __slots__ = ("_hosted",)

    def __init__(self, wakes: Wakes, hosted: HostedCore) -> None:
        super().__init__(wakes, None)
        self._hosted = hosted

    def rung(self) -> None:
        """See `Alarm.rung`."""
        self._hosted._wake()

    def hurried(self) -> None:
        """See `Alarm.hurried`."""
        if self._hosted._hurried:  # no flush since
            self._hosted._flush_now()


class HostedCore(Seating):
    """A match and its next wake. `HostedMatch` is built on it layer by layer."""

    __slots__ = (
        "__weakref__", "_alarm", "_arriving", "_clock", "_counted", "_engine_failures", "_everyone", "_fanout",
        "_gate", "_held", "_hurried", "_interval", "_late", "_meters", "_overrun_told_at", "_reserved",
        "_riding", "_schema", "_services", "_still", "_strict", "_time_ms", "_topics", "_waiting", "base_version",
        "closed", "created_at", "edges", "flushed_at", "game", "game_class", "journal", "journaled", "leaving",
        "match", "members", "options_key", "recent", "saved_version", "token", "unsaved_since",
    )  # fmt: skip

    def __init__(
        self,
        match: Match,
        game: type[Game],
        channel: int,
        services: Services,
        *,
        options_key: str = "",
        journal: JournalWriter | None = None,
    ) -> None:
        super().__init__(match.id, channel, match.spec.by_key)
        self.match = match
        self.game = game_name(game)
        self.game_class = game
        self.options_key = options_key
        # A restored match does not know its birthday: its own time, which stands still with the server, is close.
        self.created_at = services.clock.wall() - match.clock_us / 1_000_000
        self.members: dict[str, Member] = {}
        self.edges: EdgeFan | None = None
        """The nodes that carry members of this match, if there are any."""
        self._reserved: dict[str, float] = {}  # user id → until when a seat is kept for a join that was promised
        self.saved_version = 0
        self.unsaved_since: float | None = None
        self.flushed_at = 0.0
        self.closed = False
        self.leaving = False
        """It stands still, and is about to be run elsewhere."""
        self._late: list[tuple[Member, int, str | int, Args, bool, int | None]] = []
        self.journal = journal
        """Writes what the store has of it. None: there is no store, as in tests."""
        self.journaled = journal is not None and game.durability != "snapshot"
        """Each flush is written before anything that must last leaves; otherwise snapshots are all there is."""
        self.base_version = match.version  # what its epoch began with here
        self.recent = RecentFrames(services.recent, match.version)
        """What was sent lately, for players who come back."""
        self._strict = self.journaled and game.durability == "strict"
        self._waiting: deque[MatchOutput] = deque()  # what the gate holds
        self._riding: Gated | None = None  # acknowledgements that it let go of, for the next tick's write
        self._still: frozenset[str] = frozenset()  # why nothing may happen in it, as long as there is a reason
        self._held: list[tuple[int, Sequence[Effect]]] = []  # by version, what there is no room for yet
        self._topics: list[str] | None = None  # as the keeper was told
        self.token: Token | None = None  # what it was written under, once it is not any more
        self._services = services
        self._gate = self._make_gate()
        self._clock = services.clock
        self._fanout = services.fanout
        self._everyone: tuple[Member, ...] | None = None
        self._arriving: list[Member] = []
        self._alarm = MatchAlarm(services.wakes, self)
        self._hurried = False  # a flush is on its way
        self._engine_failures: dict[str, int] | None = None  # where → how often in a row
        self._schema: tuple[int, bytes] = (-1, b"")
        self._meters = services.meters.game(self.game)
        self._interval = 1.0 / game.tick_hz if game.tick_hz > 0 else 0.0
        self._overrun_told_at = -math.inf
        self._counted = MatchCounts()
        self._time_ms = 0

    def _make_gate(self) -> Gate:
        if self.journal is None:
            return self._services.gate
        return JournalGate(self.journal, strict=self._strict) if self.journaled else SnapshotGate(self.journal)

    def start(self) -> None:
        """Begin to run: the first wake is put on the loop's clock."""
        self._after()

    def freeze(self) -> None:
        """Stop running: nothing happens in the match from here on (its last snapshot follows)."""
        self._let_riding_out()
        self.closed = True
        self._alarm.clear()
        self._hurried = False

    def overdue_seconds(self, now: float) -> float:
        """How late the next wake is: what is overdue by seconds does not progress."""
        return max(0.0, now - self._alarm.at) if self._alarm.is_set() else 0.0

    def _schedule(self, now: float) -> None:
        if self.closed or self._still or self._hurried:
            return  # a flush that is on its way comes here when it is done
        alarm, match = self._alarm, self.match
        if match.only_ticks() and not self._engine_failures:
            tick_at = match.host_time(match.tick_due_us)
            if tick_at > now:
                if not alarm.is_set() or alarm.at > tick_at + WAKE_SLACK_SECONDS:
                    alarm.set(tick_at, now)
                return
        due = match.next_wake(now)
        if due is not None and (self._engine_failures or (due <= now and not self._services.valid())):
            # Without a lease what is there is not taken out: it would be due again at once, until the match is dropped.
            due = max(due, now + ENGINE_RETRY_SECONDS)
        if due is None:
            alarm.clear()
        elif not alarm.is_set() or alarm.at > due + WAKE_SLACK_SECONDS:
            # One that rings early finds nothing due and comes here again: cheaper than moving it for every action.
            alarm.set(due, now)

    def _wake(self) -> None:
        if self.closed:
            return
        services, match = self._services, self.match
        wakes = services.wakes
        now = wakes.now
        if now < self._alarm.at:
            now = self._alarm.at  # it rang a hair early: what was asked for is due
        try:
            match.wake(now, wakes.wall)
        except Exception as failure:  # noqa: BLE001 - one match's failure must not end the loop's turn for the others
            self._failed("wake", failure)
        else:
            if self._engine_failures:
                self._works("wake")
            # Most wakes of a match that nobody is in end here: nothing is to be committed, sent or looked at again.
            if (
                match.urgent
                or match.has_output()
                or self._arriving
                or self._riding is not None
                or self._hurried
                or match.topics is not self._topics
                or self._engine_failures
            ):
                self._flush(now)
        ended = services.perf()
        seconds, wakes.started = ended - wakes.started, ended
        self._meters.tick.observe(seconds)
        if self._interval and seconds > self._interval:
            self._overrun(seconds)
        self._schedule(now)

    def _overrun(self, seconds: float) -> None:
        """A tick took longer than there is time for it: the other matches of this process waited meanwhile."""
        self._meters.overruns.inc()
        now = self._clock.now()
        if now - self._overrun_told_at >= OVERRUN_LOG_SECONDS:
            self._overrun_told_at = now
            log.warning(
                "tick_overrun", match=self.match_id, game=self.game, took_ms=round(seconds * 1000, 1),
                interval_ms=round(self._interval * 1000, 1),
            )  # fmt: skip

    def _after(self) -> None:
        """Something came in from outside: flush if it is urgent, and see when the match wants to be woken."""
        if self._arriving or self.match.urgent:
            self._flush_soon()
        else:
            self._schedule(self._clock.now())

    def _flush_soon(self) -> None:
        """Flush once in this turn of the loop, however many urgent things happen in it."""
        if not self._hurried and not self.closed:
            self._hurried = True
            wakes = self._services.wakes
            wakes.hurry(self._alarm)

    def _flush_now(self) -> None:
        self._hurried = False
        now = self._clock.now()
        self._flush(now)
        self._schedule(now)

    def flush(self) -> None:
        """Commit what happened and send it."""
        self._flush(self._clock.now())

    # --- what the layers above do -------------------------------------------------------------------------------------
    def _flush(self, now: float) -> None:
        """Commit what happened and send it; `now` as the loop's clock has it, read once for all that is due."""
        raise NotImplementedError

    def _let_riding_out(self) -> None:
        """Write the acknowledgements that wait for a tick."""
        raise NotImplementedError

    def close(self, error: GameServerError, *, reconnect: bool) -> None:
        """Take the match off this node's loop and its channel from everyone."""
        raise NotImplementedError

    @property
    def _whole(self) -> HostedMatch:
        """This match with all its layers: what its keeper is told of."""
        return cast("HostedMatch", self)

    # --- looking in, and failing --------------------------------------------------------------------------------------
    def _members(self) -> tuple[Member, ...]:
        if self._everyone is None:
            here = [member for member in self.members.values() if not member.remote]
            self._everyone = tuple(here)
        return self._everyone

    def snapshot(self) -> dict[str, Any]:
        """Everything, as it is at the last flush. Raises StateError while an output waits to be taken."""
        return self.match.snapshot(self._clock.now())

    def collect_counts(self) -> None:
        """Move what the match counted into the metrics."""
        counts = self.match.counts
        self._meters.add_counts(counts, self._counted)
        self._counted = counts.copy()

    def _works(self, what: str) -> None:
        if self._engine_failures is not None:
            self._engine_failures.pop(what, None)
            self._engine_failures = self._engine_failures or None

    def _failed(self, what: str, failure: Exception) -> None:
        """Our own code failed around this match: the others go on, and this one does too unless it keeps failing."""
        failures = self._engine_failures = self._engine_failures or {}
        in_a_row = failures[what] = failures.get(what, 0) + 1
        self._meters.failures.inc()
        log.error(
            "match_engine_failed", match=self.match_id, game=self.game, during=what, in_a_row=in_a_row,
            exc_info=failure,
        )  # fmt: skip
        if in_a_row >= ENGINE_FAILURES_MAX:
            self.close(InternalError("The match cannot go on; it was logged."), reconnect=False)
            self._services.keeper.broken(self._whole, f"{what}: {type(failure).__name__}: {failure}")
