"""`Match`: one running instance of a game. Time is an argument everywhere; nothing here waits, reads or writes.

The host calls `receive`, `join`, … as messages come in, `wake` when `next_wake` says so, and after each of them takes
the output: at once when `urgent`, otherwise after the wake.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

import msgspec

from gameserver.errors import ActionRefused, GameCodeError, RequestInvalid, StateError
from gameserver.match.checks import GameSpec, compile_game
from gameserver.match.game import Game
from gameserver.match.journal import Recorder
from gameserver.match.output import MatchOutput
from gameserver.match.plain import plain
from gameserver.match.player import Session
from gameserver.match.seats import MatchSeats
from gameserver.match.snapshot import dump_match, load_match
from gameserver.match.timers import NEVER
from gameserver.match.values import MatchLimits, Priority
from gameserver.state import EMPTY_OPS, Patch, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gameserver.match.values import Effect, EventBatch

_DEFAULT_LIMITS = MatchLimits()


class Match(MatchSeats):
    """A match. Make one with `Match.create` or `Match.restore`."""

    __slots__ = (
        "__weakref__", "_end_reported", "_recorder", "_states", "high_events", "tick_due_us", "unsettled",
    )  # fmt: skip

    def __init__(self, spec: GameSpec, match_id: str, epoch: int, seed: int, limits: MatchLimits) -> None:
        super().__init__(spec, match_id, epoch, seed, limits)
        self.tick_due_us = self._tick_us(1)
        """The match time of the next tick."""
        self._end_reported = False
        self._states: dict[str, bytes] = {}
        """Viewer → encoded full state, kept while the state does not change: many who join at once share one."""
        self._recorder: Recorder | None = None
        self.unsettled: dict[tuple[int, int], Effect] = {}
        """(version, index) → effects that are not known to have been carried out; issued again after a takeover."""
        self.high_events: deque[tuple[int, EventBatch]] = deque(maxlen=limits.high_events_kept)
        """The last HIGH events with their versions, for those who come back."""

    @classmethod
    def create(
        cls,
        game_class: type[Game],
        match_id: str,
        *,
        options: dict[str, Any] | None = None,
        seed: int,
        now: float,
        wall: float,
        epoch: int = 1,
        limits: MatchLimits = _DEFAULT_LIMITS,
        journaled: bool = False,
    ) -> Self:
        """A new match. `journaled`: its outputs have records for the journal, from a first snapshot on.

        Raises RequestInvalid for options the game does not take, GameCodeError when it fails.
        """
        spec = compile_game(game_class)
        match = cls(spec, match_id, epoch, seed, limits)
        match.options, checked = _check_options(game_class, options or {})
        match.origin_us = round(now * 1_000_000)
        match.wall = wall
        game = _new_game(game_class)
        match.attach(game, Tree(game))
        try:
            match.call("on_create", game.on_create, (checked,))
        except ActionRefused as refused:
            raise RequestInvalid(refused.message) from None
        except Exception as error:
            raise GameCodeError(f"The game failed to set the match up: {type(error).__name__}.") from error
        match.touched = True
        match.finish()
        if journaled:
            match.start_journal()
        return match

    @classmethod
    def restore(
        cls,
        game_class: type[Game],
        snapshot: dict[str, Any],
        *,
        now: float,
        wall: float,
        epoch: int,
        idle_seconds: float = 0.0,
        limits: MatchLimits = _DEFAULT_LIMITS,
        journal: Iterable[list[Any]] = (),
        journaled: bool = False,
    ) -> Self:
        """The match of a snapshot and the records since; match time goes on from there.

        `idle_seconds` are added to it (hibernation counts). Raises StateError for a snapshot of another game, one of
        a newer `state_version`, or a journal with a gap.
        """
        match = cls(compile_game(game_class), str(snapshot["match"]), epoch, 0, limits)
        match.wall = wall
        load_match(match, _new_game(game_class), snapshot, list(journal))
        time_us = snapshot["time_us"] if match.version == snapshot["version"] else match.clock_us
        match.origin_us = round(now * 1_000_000) - time_us - round(idle_seconds * 1_000_000)
        match._end_reported = match.ended is not None
        if journaled:
            match.start_journal()
        return match

    def start_journal(self) -> None:
        """From the next flush on each output has a journal record; what came before must be in a snapshot."""
        self.journaling = True
        self._recorder = Recorder(self)

    def snapshot(self, now: float) -> dict[str, Any]:
        """Everything, as plain data that msgpack can hold. Raises StateError while an output waits to be taken."""
        if self.pending:
            raise StateError("take the output before the snapshot: a snapshot belongs to a version")
        return dump_match(self, max(self.clock_us, round(now * 1_000_000) - self.origin_us))

    # --- time passes --------------------------------------------------------------------------------------------------
    def next_wake(self, now: float) -> float | None:
        """When to call `wake` (and take the output) next, in the host's time. None: not before something comes in."""
        if self.urgent or ((self.ended is not None or not self.spec.tick_hz) and self.pending):
            return now
        if self.ended is not None:
            return None
        due_us = self._due_us()
        return None if due_us >= NEVER else self.host_time(due_us)

    def only_ticks(self) -> bool:
        """Is its next tick all that it is to be woken for, at `tick_due_us`?"""
        return self.spec.tick_hz > 0 and self.ended is None and not self.urgent

    def next_due(self) -> float | None:
        """When something is due that must not be slept through, in the host's time: timers and seats, not ticks."""
        due_us = min(self.batch_due_us, self.timers.next_due_us(), self.deadline_us())
        return None if due_us >= NEVER else self.host_time(due_us)

    def _due_us(self) -> int:
        if self.spec.tick_hz:
            return self.tick_due_us
        return min(self.batch_due_us, self.timers.next_due_us(), self.deadline_us())

    def wake(self, now: float, wall: float) -> None:
        """Do what is due: queued actions and timers in order of time, ticks, seats and matches that nobody claims."""
        if self.ended is not None:
            return
        at_us = self.enter(now, wall)
        if self._due_us() > at_us:
            return
        if self.spec.tick_hz:
            self._run_ticks(at_us)
        else:
            self.batch_due_us = NEVER
            self._run_until(at_us)
        if self.ended is None:
            self.expire(at_us)

    def _run_ticks(self, at_us: int) -> None:
        number = self.tick_number()
        next_us = self._tick_us(number + 1)
        if next_us <= at_us:  # more than the one that is due
            number = self._skip_ticks(number, at_us)
            next_us = self._tick_us(number + 1)
        dt = 1 / self.spec.tick_hz
        while True:
            due_us, self.tick_due_us = self.tick_due_us, next_us
            if self.queue or self.timers.heap:
                self._run_until(due_us)
            elif due_us > self.clock_us:
                self.clock_us = due_us
            if self.ended is None:
                self._tick(dt)
            if next_us > at_us or self.ended is not None:
                break
            number += 1
            next_us = self._tick_us(number + 1)
        # A wake that is late shows what came in after its tick was due, too: who waits for it does not wait twice.
        if (self.queue or self.timers.heap) and self.ended is None:
            self._run_until(at_us)

    def _skip_ticks(self, number: int, at_us: int) -> int:
        """Give up the oldest of the ticks that are due if they are more than are caught up with; the first to run."""
        last = int(at_us * self.spec.tick_hz / 1_000_000)
        last += self._tick_us(last + 1) <= at_us
        skipped = last - number + 1 - self.spec.cls.catchup_ticks_max
        if skipped > 0:
            self.counts.ticks_skipped += skipped
            number += skipped
            self.tick_due_us = self._tick_us(number)
        return number

    def _tick_us(self, number: int) -> int:
        """When a tick is due. Counted from the start and rounded once: 60 ticks are a second."""
        return round(number * 1_000_000 / self.spec.tick_hz) if self.spec.tick_hz else 0

    def tick_number(self) -> int:
        """The number of the next tick. Derived, so that a class with another rate can go on from a snapshot."""
        return round(self.tick_due_us * self.spec.tick_hz / 1_000_000)

    def resume_ticks(self, due_us: int, time_us: int) -> None:
        """Go on ticking where a snapshot stopped; a game that had no ticks before begins now."""
        self.tick_due_us = due_us or time_us
        self.tick_due_us = self._tick_us(self.tick_number() + (0 if due_us else 1))

    def _tick(self, dt: float) -> None:
        self.counts.ticks += 1
        if not self.spec.ticks:
            return
        if self.attempt("on_tick", self.game.on_tick, (dt,)):
            self.tick_failures = 0
        else:
            # Counted on its own too: actions that succeed in between do not make a match of failing ticks work.
            self.tick_failures += 1
            if self.tick_failures >= self.spec.cls.failures_max and self.ending is None:
                self.give_up(self.tick_failures, "on_tick")
        if self.ending is not None:
            self.finish()

    def _run_until(self, at_us: int) -> None:
        """Queued actions and timers up to a time, each at its own: actions at their arrival, timers when due."""
        queue, timers, never = self.queue, self.timers, NEVER
        fired = taken = 0
        while self.ended is None:
            timer_us = timers.next_due_us() if timers.heap else never
            item = queue[taken] if taken < len(queue) else None
            if item is not None and (item.done or item.at_us <= timer_us):
                if not item.done:
                    if item.at_us > at_us:
                        break
                    self.apply(item)
                taken += 1
            elif timer_us <= at_us:
                if fired >= self.limits.timers_per_wake_max:
                    del queue[:taken]
                    return
                fired += 1
                self._fire(timer_us)
            else:
                break
        del queue[:taken]
        if at_us > self.clock_us:
            self.clock_us = at_us

    def _fire(self, due_us: int) -> None:
        timer = self.timers.pop()
        self.touched = True
        self.counts.timers += 1
        if due_us > self.clock_us:
            self.clock_us = due_us
        self.attempt(f"timer {timer.method}", getattr(self.game, timer.method), timer.args)
        if self.ending is not None:
            self.finish()

    def hear(self, topic: str, data: Any, sender: str, position: tuple[int, int], now: float, wall: float) -> bool:
        """A message of a match: its `position` (version, index) grows; one that was heard is not heard again."""
        if self.ended is not None or topic not in self.topics:
            return False
        last = self.heard.get(sender)
        if last is not None and position <= (last[0], last[1]):
            return False
        others = [(other, at) for other, at in self.heard.items() if other != sender]
        self.heard = dict([*others[-self.limits.senders_kept + 1 :], (sender, list(position))])
        self.clock_us = self.enter(now, wall)
        self.touched = True
        self.attempt("on_message", self.game.on_message, (topic, plain(data, "the message")))
        if self.ending is not None:
            self.finish()
        return True

    # --- output -------------------------------------------------------------------------------------------------------
    @property
    def pending(self) -> bool:
        """Whether `take_output` has something to give."""
        return self.has_output()

    def has_output(self) -> bool:
        """See `pending`."""
        return bool(self._fresh() or self.repeats)

    def _fresh(self) -> bool:
        outbox = self.outbox
        return bool(self.tree.log or self.touched or self.acted or self.acks or outbox.events or outbox.effects)

    def take_output(self) -> MatchOutput | None:
        """Flush: one new version with everything that happened since the last one. None when nothing did."""
        self.urgent = False
        if not self._fresh():
            return self._take_repeats()
        self.version = version = self.version + 1
        tree, outbox = self.tree, self.outbox
        if self._states and tree.log:
            self._states.clear()
        patch = tree.flush(self.journaling)
        events: list[EventBatch] = []
        gated_events: list[EventBatch] = []
        effects: list[Effect] = []
        if outbox.events:
            events, gated_events = outbox.take_events(tree.receivers)
        if outbox.effects:
            effects = outbox.take_effects()
        applied: list[int] = []
        for session in self.acted:
            session.acted = False
            if not session.left:
                applied.append(session.slot)
                applied.append(session.applied)
        acks = self.repeats + self.acks if self.repeats else self.acks
        output = MatchOutput(
            version, self.epoch, self.clock_us // 1000, patch, applied, events, gated_events, acks, effects
        )
        output.high = self.high or bool(gated_events) or (bool(effects) and _has_high(effects))
        if not self._end_reported:
            output.ended = self.ended
        for batch in gated_events:
            self.keep_high_events(version, batch)
        for effect in effects:
            self.unsettled[version, effect.index] = effect
        if self._recorder is not None:
            output.journal = self._recorder.record(output)
        self._end_reported = self.ended is not None
        self.acted, self.acks, self.repeats = [], [], []
        self.high = self.touched = False
        return output

    def keep_high_events(self, version: int, batch: EventBatch) -> None:
        """Keep HIGH events for those who come back, as many batches as the limits say."""
        self.high_events.append((version, batch))

    def settle_effect(self, version: int, index: int) -> None:
        """An effect was carried out: it need not be issued again."""
        self.unsettled.pop((version, index), None)

    def _take_repeats(self) -> MatchOutput | None:
        if not self.repeats:
            return None
        repeats, self.repeats = self.repeats, []
        patch = Patch(EMPTY_OPS, [])
        output = MatchOutput(self.version, self.epoch, self.clock_us // 1000, patch, [], [], [], repeats, [])
        output.high, output.committed = True, False
        return output

    # --- looking in ---------------------------------------------------------------------------------------------------
    def full_state(self, viewer: str) -> bytes:
        """The state as a viewer sees it at the current version, encoded. Take the output first."""
        found = self._states.get(viewer)
        if found is None or self.tree.dirty:
            found = self._states[viewer] = self.tree.full_state(viewer)
        return found

    def schema(self) -> list[Any]:
        """The classes of the state, for the wire."""
        return self.tree.schema()

    def actions(self) -> list[str]:
        """The names of the actions; an action's number is its place."""
        return [spec.name for spec in self.spec.actions]

    def session(self, session_id: str) -> Session | None:
        """The session of that id, a player's or a spectator's."""
        return self.sessions.get(session_id) or self.watchers.get(session_id)

    def has_session(self, session_id: str) -> bool:
        """Whether this session is in the match (still)."""
        return session_id in self.sessions or session_id in self.watchers

    def info(self) -> dict[str, Any]:
        """What a listing shows."""
        cls = self.spec.cls
        return {
            "match": self.id,
            "game": self.spec.name,
            "players": len(self.players),
            "players_connected": sum(player.connected for player in self.players.values()),
            "players_max": cls.players_max,
            "spectators": len(self.watchers),
            "spectators_max": cls.spectators_max,
            "open": self.ended is None and len(self.players) < cls.players_max,
            "summary": dict(self.summary),
            "epoch": self.epoch,
            "version": self.version,
            "time_seconds": self.clock_us / 1_000_000,
            "ended": self.ended,
        }


def _has_high(effects: list[Effect]) -> bool:
    return any(effect.priority is Priority.HIGH for effect in effects)


def _new_game(game_class: type[Game]) -> Game:
    make: Any = game_class  # for type checkers the constructor of an author's class asks for its fields
    game: Game = make()
    return game


def _check_options(game_class: type[Game], options: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The options as plain data to keep, and as what the game wants to get."""
    try:
        kept: dict[str, Any] = plain(options, "the options")
        wanted = plain(kept, "") if game_class.options_type is dict else msgspec.convert(kept, game_class.options_type)
        return kept, wanted
    except (StateError, msgspec.ValidationError) as error:
        raise RequestInvalid(f"The options of {compile_game(game_class).name} are not valid: {error}") from None
