"""Coming, going, losing the connection, coming back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gameserver.errors import (
    ActionRefused,
    GameCodeError,
    JoinRefused,
    LimitReached,
    MatchEnded,
    MatchFull,
    NotJoined,
    RequestInvalid,
)
from gameserver.match.inbox import MatchInbox
from gameserver.match.player import Player, Session
from gameserver.match.timers import NEVER
from gameserver.match.values import MatchLimits, User

if TYPE_CHECKING:
    from gameserver.match.checks import GameSpec


class MatchSeats(MatchInbox):
    """Players keep a seat (a slot) for as long as they are in the match, sessions take it in turn."""

    __slots__ = (
        "empty_since_us", "held", "seats_changed", "session_of",
    )  # fmt: skip

    def __init__(self, spec: GameSpec, match_id: str, epoch: int, seed: int, limits: MatchLimits) -> None:
        super().__init__(spec, match_id, epoch, seed, limits)
        self.session_of: dict[str, Session] = {}
        """Player id → the session that has the seat."""
        self.held: dict[str, int] = {}
        """Session id of players without a connection → when their seat is given up, in match time."""
        self.empty_since_us: int | None = 0
        self.seats_changed = False

    def join(self, user: User, session_id: str, now: float, wall: float, *, spectate: bool = False) -> Session:
        """Let a user in, or onto the seat they have already (then `replaced` names the session that lost it).

        Raises MatchEnded, MatchFull, JoinRefused, LimitReached, or GameCodeError when `on_join` failed.
        """
        if self.ended is not None:
            raise MatchEnded(f"The match has ended: {self.ended}.")
        if session_id in self.sessions or session_id in self.watchers:
            raise RequestInvalid("This session is in the match already; session ids are never used again.")
        if not user.id or user.id.startswith("*"):
            raise RequestInvalid(f"{user.id!r} cannot be a player's id: it is empty or starts with '*'.")
        self.clock_us = self.enter(now, wall)
        seated = self.session_of.get(user.id)
        if spectate:
            session = self._watch(user, session_id)
        elif seated is not None:
            session = self._take_over(seated, user, session_id)
        else:
            session = self._seat(user, session_id)
        # Whoever is told of a new seat acts on it: it is journaled at once, not with the next batch.
        self.high = self.high or not spectate
        self.empty_since_us = None
        self._changed()
        return session

    def leave(self, session_id: str, reason: str, now: float, wall: float) -> bool:
        """Give the seat up. What the session has queued is applied first. False: there is no such session."""
        watcher = self.watchers.pop(session_id, None)
        if watcher is not None:
            watcher.left = True
            self.clock_us = self.enter(now, wall)
            self._note_empty()
            self._changed()
            return True
        session = self.sessions.get(session_id)
        if session is None:
            return False
        self.clock_us = self.enter(now, wall)
        self.drain(session)
        self._unseat(session, reason)
        return True

    def disconnect(self, session_id: str, now: float, wall: float) -> bool:
        """The connection is gone: hold the seat. Spectators have none and leave. False: there is no such session."""
        if session_id in self.watchers:
            return self.leave(session_id, "disconnected", now, wall)
        session = self.sessions.get(session_id)
        if session is None or self.ended is not None:
            return False
        self.clock_us = self.enter(now, wall)
        player = self.player_of(session)
        if not player.connected:
            return True
        if self.spec.hold_us == 0:
            self.drain(session)
            self._unseat(session, "disconnected")
            return True
        player.connected = False
        self.held[session_id] = self.clock_us + self.spec.hold_us
        self.attempt("on_disconnect", self.game.on_disconnect, (player,))
        self._changed()
        return True

    def reconnect(self, session_id: str, now: float, wall: float) -> Session:
        """The same session on a new connection: its numbering goes on. Raises NotJoined when the seat is gone."""
        session = self.sessions.get(session_id)
        if session is None or self.ended is not None:
            raise NotJoined("The seat was given up: join again.")
        self.clock_us = self.enter(now, wall)
        player = self.player_of(session)
        if not player.connected:
            self.held.pop(session_id, None)
            player.connected = True
            self.attempt("on_reconnect", self.game.on_reconnect, (player,))
            self._changed()
        return session

    def _watch(self, user: User, session_id: str) -> Session:
        if len(self.watchers) >= self.spec.cls.spectators_max:
            raise LimitReached("The match has as many spectators as it may.")
        session = self.watchers[session_id] = Session(session_id, user.id, None)
        return session

    def _seat(self, user: User, session_id: str) -> Session:
        if len(self.players) >= self.spec.cls.players_max:
            raise MatchFull(f"The match is full: {len(self.players)} players.")
        taken = {player.slot for player in self.players.values()}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        player = Player(user.id, user.name, slot, user.role, joined_at=self.clock_us / 1_000_000)
        try:
            self.call("on_join", self._admit, (user, player))
        except JoinRefused:
            raise
        except ActionRefused as refused:
            raise JoinRefused(refused.message) from None
        except Exception as error:
            self.failed("on_join", error)
            self.finish()
            raise GameCodeError("The game failed to let you in.") from error
        self.failures = 0
        session = Session(session_id, user.id, player)
        self.sessions[session_id] = self.session_of[user.id] = session
        return session

    def _admit(self, user: User, player: Player) -> None:
        answer = self.game.can_join(user)
        if answer is False or isinstance(answer, str):
            raise JoinRefused(answer or "")
        self.tree.add_viewer(player.id)
        self.players[player.id] = player
        self.tree.record(lambda: self._forget(player.id))
        self.game.on_join(player)

    def _forget(self, player_id: str) -> None:
        self.players.pop(player_id, None)

    def _take_over(self, old: Session, user: User, session_id: str) -> Session:
        self.drain(old)
        if self.ended is not None:
            raise MatchEnded(f"The match has ended: {self.ended}.")
        player = self.player_of(old)
        session = Session(session_id, old.user, player)
        session.rates = old.rates
        session.replaced = old.id
        del self.sessions[old.id]
        old.left = True
        self.sessions[session_id] = self.session_of[old.user] = session
        self.held.pop(old.id, None)
        player.name, player.role, player.connected = user.name, user.role, True
        self.attempt("on_reconnect", self.game.on_reconnect, (player,))
        return session

    def _unseat(self, session: Session, reason: str) -> None:
        player = self.player_of(session)
        self.call("leave", self._remove, (session, player))
        if self.ended is None:
            self.attempt("on_leave", self.game.on_leave, (player, reason))
        self._note_empty()
        self._changed()

    def _remove(self, session: Session, player: Player) -> None:
        del self.sessions[session.id], self.session_of[player.id], self.players[player.id]
        session.left = True
        self.held.pop(session.id, None)
        for grid in self.grids.values():
            grid.unfollow(player)
        self.tree.remove_viewer(player.id)

    def _note_empty(self) -> None:
        if not self.players and not self.watchers:
            self.empty_since_us = self.clock_us

    def _changed(self) -> None:
        """Seats are part of snapshots and not of the tree; whoever joined waits for the flush."""
        self.touched = self.urgent = self.seats_changed = True
        self.finish()

    def deadline_us(self) -> int:
        """When the next seat is given up, or the match ends because nobody is in it."""
        due = min(self.held.values()) if self.held else NEVER
        if self.empty_since_us is not None and self.spec.empty_us is not None:
            due = min(due, self.empty_since_us + self.spec.empty_us)
        return due

    def expire(self, at_us: int) -> None:
        """Give up the seats whose time is over; end the match if it has been empty for long enough."""
        if not self.held and (self.empty_since_us is None or self.spec.empty_us is None):
            return
        if self.deadline_us() > at_us:
            return
        self.clock_us = max(self.clock_us, at_us)
        for session_id in [session_id for session_id, due_us in self.held.items() if due_us <= at_us]:
            session = self.sessions.get(session_id)
            if session is not None and self.ended is None:
                self.drain(session)
                self._unseat(session, "timeout")
        if self.ended is None and self.deadline_us() <= at_us and not self.players and not self.watchers:
            self.ending = "empty"
            self.finish()
