"""One match as its client sees it, without a socket: mirror, position, and the actions that are not acknowledged yet.

Pure: messages in, outcomes out. What the server guarantees and what is done with it here:

* A frame commits a version. Parts (what only some may see) come before the frame of their version and are held until
  it arrives; the frame's patch is applied first, then the parts in order, then all their events are handed on.
* A position is `(epoch, version)`. What does not go forward is old (or from a server that lost the match) and dropped.
* Urgent events come in one message per version; the version of the last one is part of what a resume says.
* Over a lost connection all of it is kept: the room is joined again and goes on, see `rejoined`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameserver.client.outcomes import Changed, Disconnected, Ended, Happened, Outcome, Reconnected
from gameserver.client.outgoing import WAITING_MAX, Outgoing, ends_session
from gameserver.errors import GameServerError, PermissionDenied, ProtocolError
from gameserver.protocol import Ack, Events, Frame, JoinDetails, Joined, Part, Resume, StateMessage
from gameserver.state import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gameserver.protocol import JoinedInfo

__all__ = ["PARTS_MAX", "WAITING_MAX", "RoomCore"]

PARTS_MAX = 4096  # parts held for one frame; a server that sends more does not speak the protocol


class RoomCore:
    """A joined match. `owner` is whatever the shell wants to find here again."""

    def __init__(self, joined: Joined) -> None:
        info = joined.info
        self.owner: Any = None
        self.match_id = info.match
        self.game = info.game
        self.connected = True
        self.applied = 0  # the last of our actions that the state we hold contains: what prediction reconciles on
        self.events_lost = 0
        self.ended: GameServerError | None = None
        self._attempts = 0
        self._parts: list[Part] = []
        self._entered(joined)
        self._load(info)
        self._outgoing = Outgoing(self, info.seq)

    def _entered(self, joined: Joined) -> None:
        """What may be another one after each join."""
        info = joined.info
        self.channel = joined.channel
        self.session = info.session
        self.slot = info.slot
        self.spectator = info.spectator
        self.tick_hz = info.tick_hz
        self.actions = info.actions
        self.numbers = {name: number for number, name in enumerate(info.actions)}
        self.window = info.window
        self._events_position = (info.epoch, info.events_version)

    def _load(self, info: JoinedInfo) -> None:
        self.mirror = Mirror(info.schema)
        self.mirror.load_full(info.state)
        self.epoch, self.version, self.time_ms = info.epoch, info.version, info.time_ms

    # --- actions ------------------------------------------------------------------------------------------------------
    @property
    def unacknowledged(self) -> int:
        """How many actions are under way."""
        return len(self._outgoing.pending)

    @property
    def waiting(self) -> int:
        """How many actions wait to be sent."""
        return len(self._outgoing.waiting)

    def act(self, name: str, args: list[Any] | dict[str, Any], ticket: Any = None) -> list[Outcome]:
        """Number an action and send it, or keep it until the window has room. Without a ticket it is a quiet one.

        Raises what the caller should know at once: the match is over, there is no such action, the arguments are not
        plain data, too many wait already. Then no number is used.
        """
        if self.ended is not None:
            raise self.ended
        if self.spectator:
            raise PermissionDenied("you only watch this match: join it to act in it")
        return self._outgoing.act(name, args, ticket)

    def acknowledged(self, ack: Ack) -> list[Outcome]:
        """What an acknowledgement settles. One that says that the numbering cannot go on ends the session."""
        if (error := self._outgoing.is_over(ack)) is not None:
            return self.end(error, reconnect=ends_session(error))
        return self._outgoing.acknowledged(ack)

    def resend(self) -> list[Outcome]:
        """Send what was refused again, in order and under the same numbers."""
        return self._outgoing.resend()

    # --- connection ---------------------------------------------------------------------------------------------------
    def details(self) -> JoinDetails:
        """How to join again. A spectator's session is over, but what it has seen keeps it from being shown less."""
        self._attempts += 1
        resume = Resume(self.session, self.epoch, self.version, self._events_position[1], self._attempts)
        return JoinDetails(spectate=self.spectator, resume=resume)

    def disconnected(self, error: GameServerError) -> list[Outcome]:
        """Out of reach: actions wait, state and everything else stays as it is."""
        if self.ended is not None or not self.connected:
            return []
        self.connected = False
        self._parts.clear()
        return [Disconnected(self, error)]

    def rejoined(self, joined: Joined) -> list[Outcome]:
        """Back: with nothing missed, with a full state, or (the seat was given up) in a new session."""
        info = joined.info
        same_session = info.session == self.session
        if info.recovered and not same_session:
            raise ProtocolError("the server recovered a session that was not ours")
        self.connected = True
        self._entered(joined)
        outcomes: list[Outcome] = [Reconnected(self, info.recovered)]
        if not info.recovered:
            self._load(info)
            outcomes.append(Changed(self))
        if same_session:
            return outcomes + self._outgoing.resumed(info.seq)
        self.applied = 0
        return outcomes + self._outgoing.restarted(info.seq)

    def end(self, error: GameServerError, *, reconnect: bool) -> list[Outcome]:
        """Nothing more will come: fail what waits, once."""
        if self.ended is not None:
            return []
        self.ended = error
        self.connected = False
        return [*self._outgoing.fail_all(error), Ended(self, error, reconnect)]

    # --- state --------------------------------------------------------------------------------------------------------
    @property
    def position(self) -> tuple[int, int]:
        """How far this client is: `(epoch, version)`."""
        return (self.epoch, self.version)

    def part(self, part: Part) -> list[Outcome]:
        """Hold what only we may see until the frame of its version commits it."""
        if (part.epoch, part.version) > self.position:
            if len(self._parts) >= PARTS_MAX:
                raise ProtocolError("the server sent parts without their frame")
            self._parts.append(part)
        return []

    def frame(self, frame: Frame) -> list[Outcome]:
        """Apply one version: patch, parts, then their events."""
        position = (frame.epoch, frame.version)
        if position <= self.position:
            return []
        parts = [part for part in self._parts if (part.epoch, part.version) == position]
        self._parts.clear()
        self.mirror.apply(frame.ops, [part.ops for part in parts])
        self._committed(frame)
        self._note_applied(frame.applied)
        outcomes: list[Outcome] = []
        if frame.ops or any(part.ops for part in parts):
            outcomes.append(Changed(self))
        outcomes += self._happened(frame.events)
        for part in parts:
            outcomes += self._happened(part.events)
        return outcomes

    def full_state(self, state: StateMessage) -> list[Outcome]:
        """Replace the mirror: the server could not, or need not, tell what changed in between."""
        if (state.epoch, state.version) < self.position:
            return []
        self._parts.clear()
        if state.schema is not None:
            self.mirror = Mirror(state.schema)
        self.mirror.load_full(state.state)
        self._committed(state)
        self.events_lost += int(state.events_lost)
        return [Changed(self)]

    def events(self, events: Events) -> list[Outcome]:
        """Urgent events: their patch is already here, so they are handed on at once."""
        position = (events.epoch, events.version)
        if position <= self._events_position:
            return []
        self._events_position = position
        return self._happened(events.events)

    def _committed(self, message: Frame | StateMessage) -> None:
        if message.epoch > self._events_position[0]:
            # Another server goes on, perhaps from before what we have heard: its versions have events of their own.
            self._events_position = (message.epoch, min(self._events_position[1], message.version))
        self.epoch, self.version, self.time_ms = message.epoch, message.version, message.time_ms

    def _note_applied(self, applied: list[int]) -> None:
        for slot, seq in zip(applied[::2], applied[1::2], strict=True):
            if slot == self.slot:
                self.applied = seq

    def _happened(self, events: Iterable[Any]) -> list[Outcome]:
        return [Happened(self, name, data) for name, data in events]
