"""The heart of a match: its clock, and the transaction that every call of author code is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from gameserver.errors import GameCodeError, StateError
from gameserver.match.dice import Dice
from gameserver.match.grid import Grid
from gameserver.match.outbox import Outbox
from gameserver.match.plain import plain
from gameserver.match.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.match.checks import GameSpec
    from gameserver.match.game import Game
    from gameserver.match.player import Player
    from gameserver.match.values import MatchLimits
    from gameserver.state import Mark
    from gameserver.state.tree import Tree

_logger = logging.getLogger("gameserver.match")
TIMER_US_MIN = 1_000
"""A timer that arms itself anew without delay fires a thousand times a second, not for ever within one wake."""
_TIMER_SECONDS_MAX = 10 * 365 * 86_400
_REASON_LENGTH_MAX = 200


class MatchCounts:
    """What happened since the match came into this process; not part of its state."""

    __slots__ = ("actions", "failures", "refused", "ticks", "ticks_skipped", "timers")

    def __init__(self) -> None:
        self.actions = self.refused = self.failures = 0
        self.ticks = self.ticks_skipped = self.timers = 0

    def copy(self) -> MatchCounts:
        """What has been counted until now."""
        counts = MatchCounts()
        counts.actions, counts.refused, counts.failures = self.actions, self.refused, self.failures
        counts.ticks, counts.ticks_skipped, counts.timers = self.ticks, self.ticks_skipped, self.timers
        return counts


class Running:
    """The call of author code that this process is in: what a watchdog, in another thread, names if it hangs."""

    __slots__ = ("match", "number", "what")

    def __init__(self) -> None:
        self.match: MatchCore | None = None
        """None: none is."""
        self.what = ""
        self.number = 0
        """Goes up with each call: whether it is still the same one."""


RUNNING: Final = Running()


class MatchCore:
    """Time, transactions and what `Game` offers its author. `Match` is built on it layer by layer."""

    __slots__ = (
        "_random", "_running", "clock_us", "counts", "dice", "ended", "ending", "epoch", "failures", "game", "grids",
        "heard", "id", "limits", "log", "options", "origin_us", "outbox", "players", "spec", "summary",
        "tick_failures", "timers", "topics", "touched", "tree", "urgent", "version", "wall",
    )  # fmt: skip

    game: Game
    tree: Tree

    def __init__(self, spec: GameSpec, match_id: str, epoch: int, seed: int, limits: MatchLimits) -> None:
        self.spec = spec
        self.id = match_id
        self.epoch = epoch
        self.version = 0
        self.limits = limits
        self.counts = MatchCounts()
        self.ended: str | None = None
        self.ending: str | None = None
        """Asked for, and carried out once the running call is done."""
        self._running = RUNNING
        self.wall = 0.0
        self.clock_us = 0
        """Match time as the author sees it, in whole microseconds so that restored matches count exactly alike."""
        self.origin_us = 0
        """The host's time at match time 0."""
        self.dice = Dice(seed)
        self._random = self.dice.source
        self.outbox = Outbox(limits.events_max, limits.effects_max)
        self.timers = Timers(self._record)
        self.options: dict[str, Any] = {}
        """What the match was created with."""
        self.summary: dict[str, Any] = {}
        self.topics: list[str] = []
        """What the match listens to, in order of names. Replaced when it changes, like what follows."""
        self.heard: dict[str, list[int]] = {}
        """Match → version and index of the last message of it that was heard."""
        self.grids: dict[str, Grid] = {}
        self.players: dict[str, Player] = {}
        self.urgent = False
        """Whether the host should take the output now rather than after the next wake."""
        self.touched = False
        """Something that belongs to snapshots, but not to the tree, changed since the last flush."""
        self.failures = 0
        self.tick_failures = 0
        self.log = logging.LoggerAdapter(
            logging.getLogger(f"gameserver.game.{spec.name}"), {"match": match_id, "game": spec.name}
        )

    def attach(self, game: Game, tree: Tree) -> None:
        """Let the author's object and the engine know each other."""
        self.game = game
        self.tree = tree
        game.__dict__["_match"] = self  # past the checks that are for authors

    # --- time ---------------------------------------------------------------------------------------------------------
    def enter(self, now: float, wall: float) -> int:
        """The match time of a call from outside; never earlier than what the author has seen."""
        self.wall = wall
        at_us = round(now * 1_000_000) - self.origin_us
        return at_us if at_us > self.clock_us else self.clock_us

    def host_time(self, at_us: int) -> float:
        """The host's time of a match time."""
        return (at_us + self.origin_us) / 1_000_000

    # --- author code --------------------------------------------------------------------------------------------------
    def call(self, what: str, method: Callable[..., Any], args: tuple[Any, ...], *, returns: bool = False) -> Any:
        """Run author code as a transaction: when it raises, all it did is undone, and the exception goes on.

        `returns`: the result leaves the match, so it is checked and copied within the transaction.
        """
        tree, outbox, random, running = self.tree, self.outbox, self._random, self._running
        random_state = random.state
        events_count, effects_count = len(outbox.events), len(outbox.effects)
        mark = tree.mark()
        running.match, running.what = self, what
        running.number += 1
        try:
            result = method(*args)
            if returns and result is not None:
                result = plain(result, f"the result of {what}")
            if tree.relink:
                tree.check(mark)
        except BaseException as error:
            self._roll_back(mark, what)
            random.state = random_state
            outbox.undo_to(events_count, effects_count)
            if isinstance(error, Exception | KeyboardInterrupt):
                raise
            # sys.exit() in a game must not stop the server and its other matches.
            raise GameCodeError(f"{what} raised {type(error).__name__}") from error
        finally:
            running.match = None
        return result

    def _roll_back(self, mark: Mark, what: str) -> None:
        try:
            self.tree.rollback(mark)
        except Exception:
            # The state is neither the old nor the new one: nobody may go on playing on it.
            _logger.critical("match %s cannot undo %s: it is taken out of play", self.id, what, exc_info=True)
            self.ended = self.ended or f"state_broken: {what} could not be undone"
            self.touched = self.urgent = True
            self.timers.clear()
            raise

    def attempt(self, what: str, method: Callable[..., Any], args: tuple[Any, ...]) -> bool:
        """Run a hook, tick or timer. Whether it succeeded; a failure is logged and counted, and the match goes on."""
        try:
            self.call(what, method, args)
        except Exception as error:  # noqa: BLE001 - author code may raise anything; it is logged and counted here
            self.failed(what, error)
            return False
        self.failures = 0
        return True

    def failed(self, what: str, error: BaseException) -> None:
        """Count a failure of author code; too many in a row end the match."""
        self.failures += 1
        self.counts.failures += 1
        _logger.error(
            "%s of game %s failed in match %s, everything it did was undone (%d in a row): %s: %s",
            what,
            self.spec.name,
            self.id,
            self.failures,
            type(error).__name__,
            error,
            exc_info=error,
            extra={"match": self.id, "game": self.spec.name, "method": what},
        )
        if self.failures >= self.spec.cls.failures_max:
            self.give_up(self.failures, what)

    def give_up(self, count: int, what: str) -> None:
        """End the match because its game does not work."""
        self.ending = f"game_failed: {count} calls in a row failed, the last in {what}"

    # --- what `Game` offers its author --------------------------------------------------------------------------------
    def _record(self, undo: Callable[[], None]) -> None:
        self.tree.record(undo)

    def _put_back(self, name: str) -> None:
        """Something outside the tree is about to be replaced: a transaction that fails puts back what was there."""
        was = getattr(self, name)
        self._record(lambda: setattr(self, name, was))

    def add_timer(self, seconds: float, method: str, args: tuple[Any, ...]) -> int:
        """See `Game.after`."""
        if seconds.__class__ not in (int, float) or not 0 <= seconds <= _TIMER_SECONDS_MAX:
            raise StateError(f"after() takes a number of seconds from 0 to ten years, not {seconds!r}")
        if len(self.timers) >= self.limits.timers_max:
            raise StateError(f"more than {self.limits.timers_max} timers are pending")
        kept = tuple(plain(arg, f"an argument of the timer {method}") for arg in args)
        return self.timers.add(self.clock_us + max(TIMER_US_MIN, round(seconds * 1_000_000)), method, kept)

    def change_summary(self, summary: dict[str, Any]) -> None:
        """See `Game.set_summary`."""
        self._put_back("summary")
        self.summary = summary

    def change_topics(self, topic: str, *, listen: bool) -> None:
        """See `Game.subscribe` and `Game.unsubscribe`."""
        if (topic in self.topics) is listen:
            return
        others = [other for other in self.topics if other != topic]
        if listen and len(others) >= self.limits.topics_max:
            raise StateError(f"a match listens to at most {self.limits.topics_max} topics")
        self._put_back("topics")
        self.topics = sorted([*others, topic]) if listen else others

    def request_end(self, reason: str) -> None:
        """See `Game.end`. The first reason stands."""
        if reason.__class__ is not str or not reason:
            raise StateError(f"end() takes a reason as a text, not {reason!r:.80}")
        if self.ending is None and self.ended is None:
            reason = str(plain(reason[:_REASON_LENGTH_MAX], "the reason"))
            self._put_back("ending")
            self.ending = reason

    def grid(self, name: str, cell_size: float, spectators: bool) -> Grid:
        """See `Game.grid`."""
        found = self.grids.get(name)
        if found is None:
            found = self.grids[name] = Grid(self.tree, name, cell_size, spectators)
            self._record(lambda: _remove(self.grids, name))
        elif found.cell_size != cell_size or found.spectators != spectators:
            raise StateError(f"the grid {name!r} has cells of {found.cell_size:g} already: name a second grid")
        return found


def _remove(grids: dict[str, Grid], name: str) -> None:
    grids.pop(name, None)
