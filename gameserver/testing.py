"""The author's test kit: a match on a virtual clock, with fake players. No sockets, no sleeps.

    def test_a_hit_costs_hit_points():
        tester = MatchTester(Arena)
        alice, bob = tester.join("alice"), tester.join("bob")
        assert alice.act("fire", target="bob") is True
        assert bob.view["ships"]["bob"]["hp"] == 75
        assert ("hit", {"target": "bob"}) in bob.events
        tester.advance(3.0)
        tester.restart()

What a fake player sees has gone through the real encoders and a real mirror, and after every flush it is compared with
what the server says this player may see. What the game's own code raises comes out of the test: from `act` as
`GameCodeError` with the cause, from ticks, timers and hooks as it is.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gameserver.errors import ActionError, GameCodeError, GameServerError
from gameserver.match import PUBLISH, Ack, Effect, EventBatch, Game, Match, MatchLimits, MatchOutput, Session, User
from gameserver.state import Mirror, to_plain

__all__ = ["FakePlayer", "MatchTester"]

_WALL_AT_START: Final = 1_800_000_000.0
_NOW_AT_START: Final = 1_000.0
_ACT_SECONDS_MAX: Final = 3_600.0
_WAKES_MAX: Final = 1_000_000
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class _WatchedMatch(Match):
    """Keeps what author code raised, for the test to see."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.raised: list[tuple[str, BaseException]] = []

    def failed(self, what: str, error: BaseException) -> None:
        """As a match does, and remember it."""
        super().failed(what, error)
        self.raised.append((what, error))


class MatchTester:
    """One match of a game, its clock in your hand."""

    def __init__(
        self,
        game: type[Game],
        options: dict[str, Any] | None = None,
        *,
        seed: int = 1,
        match_id: str = "test",
        raise_failures: bool = True,
        limits: MatchLimits | None = None,
    ) -> None:
        """`raise_failures=False`: what ticks, timers and hooks raise is only collected, in `failures`."""
        self.now: float = _NOW_AT_START
        """The host's clock: only `advance` moves it."""
        self.raise_failures = raise_failures
        self.failures: list[tuple[str, BaseException]] = []
        """What author code raised: method and exception."""
        self.players: dict[str, FakePlayer] = {}
        self.records: list[Effect] = []
        """Everything the game recorded, in order."""
        self.published: list[tuple[str, Any]] = []
        """Everything the game published, in order: topic and data. `message` is how it hears something."""
        self.ended: str | None = None
        self._game_class = game
        self._limits = limits or MatchLimits()
        self._sessions_count = 0
        self._messages_count = 0
        try:
            self.match = _WatchedMatch.create(
                game, match_id, options=options, seed=seed, now=self.now, wall=self.wall, limits=self._limits
            )
        except GameCodeError as error:
            raise (error.__cause__ or error) from None
        self.flush()

    @property
    def wall(self) -> float:
        """The wall clock: it goes with `now`."""
        return _WALL_AT_START + self.now - _NOW_AT_START

    @property
    def game(self) -> Any:
        """The game object itself, to look at. What you change here is no action: call `flush` after it."""
        return self.match.game

    @property
    def summary(self) -> dict[str, Any]:
        """What listings show."""
        return dict(self.match.summary)

    # --- players ------------------------------------------------------------------------------------------------------
    def join(
        self, user_id: str, *, name: str | None = None, role: str = "player", spectate: bool = False
    ) -> FakePlayer:
        """A player comes in (or takes the seat over, if they have one). Raises what the game answers."""
        self._sessions_count += 1
        user = User(user_id, name if name is not None else user_id.title(), role)
        try:
            session = self.match.join(user, f"session-{self._sessions_count}", self.now, self.wall, spectate=spectate)
        except GameCodeError as error:
            self.failures.extend(self._take_raised())
            self.flush()
            raise error from error.__cause__
        player = FakePlayer(self, session)
        if session.replaced is not None:
            self.players.pop(session.replaced, None)
        self.players[session.id] = player
        self.flush()
        return player

    def spectate(self, user_id: str = "watcher") -> FakePlayer:
        """Someone who only watches."""
        return self.join(user_id, spectate=True)

    # --- time ---------------------------------------------------------------------------------------------------------
    def advance(self, seconds: float) -> None:
        """Let time pass: every tick, timer and batch runs when it is due."""
        end = round(self.now + seconds, 6)  # whole microseconds, like match time: 0.1 three times is 0.3
        for _ in range(_WAKES_MAX):
            due = self.match.next_wake(self.now)
            if due is None or due > end:
                break
            self._wake(due)
        else:
            raise RuntimeError(f"the match wants to be woken more than {_WAKES_MAX} times in {seconds:g} seconds")
        self.now = end

    def message(self, topic: str, data: Any = None, *, sender: str = "another-match") -> bool:
        """Another match publishes something; whether this one listens to that topic."""
        self._messages_count += 1
        heard = self.match.hear(topic, data, sender, (self._messages_count, 0), self.now, self.wall)
        self.flush()
        return heard

    def stall(self, seconds: float) -> None:
        """Let time pass as if the process had been stopped: what was due runs late, at the end."""
        self.now = round(self.now + seconds, 6)
        self._wake(self.now)

    def _wake(self, due: float) -> None:
        self.now = max(self.now, due)
        self.match.wake(self.now, self.wall)
        self.flush()

    # --- output -------------------------------------------------------------------------------------------------------
    def flush(self) -> MatchOutput | None:
        """Send out what happened, and compare what everyone sees with what they should. Done after every call."""
        output = self.match.take_output()
        if output is not None:
            self._deliver(output)
        for player in self.players.values():
            player.arrive()
            player.check()
        raised = self._take_raised()
        self.failures.extend(raised)
        if raised and self.raise_failures:
            raise raised[0][1]
        return output

    def _take_raised(self) -> list[tuple[str, BaseException]]:
        raised, self.match.raised = self.match.raised, []
        return raised

    def _deliver(self, output: MatchOutput) -> None:
        for player in self.players.values():
            player.receive(output)
        for effect in output.effects:
            if effect.kind == PUBLISH:
                self.published.append((effect.payload["topic"], effect.payload["data"]))
            else:
                self.records.append(effect)
        if output.ended is not None:
            self.ended = output.ended
        for ack in output.acks:
            sender = self.players.get(ack.session_id)
            if sender is not None:
                sender.acks[ack.seq] = _decode(_encode(ack), type=Ack)

    # --- restarts -----------------------------------------------------------------------------------------------------
    def restart(self, game: type[Game] | None = None, *, idle_seconds: float = 0.0) -> None:
        """Save the match, forget it, and restore it from the saved bytes, as after a crash or on another node.

        `game`: a changed class of the same name, as after a deploy. Everyone keeps their seat and gets the full state.
        """
        self.flush()
        saved = _encode(self.match.snapshot(self.now))
        self._game_class = game or self._game_class
        self.match = _WatchedMatch.restore(
            self._game_class,
            _decode(saved),
            now=self.now,
            wall=self.wall,
            epoch=self.match.epoch + 1,
            idle_seconds=idle_seconds,
            limits=self._limits,
        )
        for player in self.players.values():
            player.mirror = None
        self.flush()


class FakePlayer:
    """A client: it sends actions and keeps what it was sent."""

    def __init__(self, tester: MatchTester, session: Session) -> None:
        self._tester = tester
        self.session_id = session.id
        self.id = session.user
        self.viewer = session.viewer
        self.spectator = session.spectator
        self.connected = True
        self.mirror: Mirror | None = None
        self.events: list[tuple[str, Any]] = []
        """Every event received, in order."""
        self.acks: dict[int, Ack] = {}
        """Outcomes by seq."""
        self.applied = 0
        """The last of its seqs that is in the state, as the frames say."""
        self.seq = 0
        self._joined_version = -1

    # --- acting -------------------------------------------------------------------------------------------------------
    def send(self, name: str | int, *args: Any, quiet: bool = False, **named: Any) -> int:
        """Send an action and do not wait: the seq it got. `result` has its outcome once time has passed."""
        if args and named:
            raise TypeError("give an action's arguments by position or by name, not both")
        self.seq += 1
        return self.resend(self.seq, name, list(args) if args or not named else named, quiet=quiet)

    def resend(self, seq: int, name: str | int, args: Any, *, quiet: bool = False) -> int:
        """Send an action with a seq of your choice: for tests of what a broken connection makes clients do."""
        tester = self._tester
        tester.match.receive(self.session_id, seq, name, args, tester.now, tester.wall, quiet=quiet)
        if tester.match.urgent:
            self._flush_act()
        return seq

    def act(self, name: str | int, *args: Any, **named: Any) -> Any:
        """Send an action and let time pass until it has an outcome: the result, or the error raised."""
        seq = self.send(name, *args, **named)
        tester = self._tester
        latest = tester.now + _ACT_SECONDS_MAX
        while seq not in self.acks:
            due = tester.match.next_wake(tester.now)
            if due is None or due > latest:
                raise AssertionError(f"{name!r} (seq {seq}) got no outcome")
            tester.now = max(tester.now, due)
            tester.match.wake(tester.now, tester.wall)
            self._flush_act()
        return self.result(seq)

    def result(self, seq: int) -> Any:
        """The result of an action, or its error raised. KeyError while there is no outcome."""
        ack = self.acks[seq]
        if not ack.error:
            return ack.result
        code, message, _retryable = ack.result
        raise error_of(code)(message) from next(
            (error for _what, error in reversed(self._tester.failures) if code == GameCodeError.code), None
        )

    def _flush_act(self) -> None:
        """Failures of actions come back to who acted; only those of ticks, timers and hooks are raised."""
        tester = self._tester
        actions = set(tester.match.actions())
        raised = tester._take_raised()
        tester.failures.extend(pair for pair in raised if pair[0] in actions)
        tester.match.raised = [pair for pair in raised if pair[0] not in actions]
        tester.flush()

    # --- coming and going ---------------------------------------------------------------------------------------------
    def leave(self, reason: str = "left") -> None:
        """Give the seat up."""
        tester = self._tester
        tester.match.leave(self.session_id, reason, tester.now, tester.wall)
        tester.players.pop(self.session_id, None)
        tester.flush()

    def disconnect(self) -> None:
        """Lose the connection; the seat is held."""
        tester = self._tester
        self.connected, self.mirror = False, None
        tester.match.disconnect(self.session_id, tester.now, tester.wall)
        tester.flush()

    def reconnect(self) -> None:
        """Come back on a new connection, to the same session."""
        tester = self._tester
        tester.match.reconnect(self.session_id, tester.now, tester.wall)
        self.connected = True
        tester.flush()

    # --- seeing -------------------------------------------------------------------------------------------------------
    @property
    def state(self) -> Any:
        """The live mirror: `alice.state.ships["alice"].hp`."""
        assert self.mirror is not None, f"{self.id} is not connected"
        return self.mirror.root

    @property
    def view(self) -> Any:
        """What this player sees, as plain dicts and lists."""
        return to_plain(self.state)

    def take_events(self) -> list[tuple[str, Any]]:
        """The events since the last call of this."""
        events, self.events = self.events, []
        return events

    def arrive(self) -> None:
        """Get the full state, if connected and without one."""
        if self.connected and self.mirror is None:
            match = self._tester.match
            self.mirror = Mirror(_decode(_encode(match.schema())))
            self.mirror.load_full(_decode(match.full_state(self.viewer)))
            self._joined_version = match.version

    def receive(self, output: MatchOutput) -> None:
        """Take in one flush as a client does: the shared part, then the private ones, then the events."""
        if self.mirror is None or not output.committed:
            return
        parts = [_decode(part.ops) for part in output.patch.parts if self.viewer in part.receivers]
        self.mirror.apply(_decode(output.patch.everyone), parts)
        self._hear(output.events)
        self._hear(output.gated_events)
        if not self.spectator:
            session = self._tester.match.session(self.session_id)
            slots = dict(zip(output.applied[::2], output.applied[1::2], strict=True))
            if session is not None:
                self.applied = slots.get(session.slot, self.applied)

    def _hear(self, batches: list[EventBatch]) -> None:
        everyone_first = sorted(batches, key=lambda batch: batch.receivers is not None)
        for batch in everyone_first:
            if batch.receivers is None or self.viewer in batch.receivers:
                self.events.extend((name, data) for name, data in _decode(_encode(batch.events)))

    def check(self) -> None:
        """Compare what the patches led to with what the server says this player may see."""
        if self.mirror is not None:
            expected = self._tester.match.tree.view(self.viewer)
            seen = to_plain(self.mirror.root)
            assert seen == expected, f"what {self.id} sees differs from the server's view:\n{seen}\n{expected}"

    def __repr__(self) -> str:
        return f"FakePlayer({self.id!r})"


def error_of(code: str) -> type[GameServerError]:
    """The error class of a code."""
    pending: list[type[GameServerError]] = [GameServerError]
    for found in pending:  # grows while it is walked
        if found.code == code and found is not GameServerError:
            return found
        pending.extend(found.__subclasses__())
    return ActionError
