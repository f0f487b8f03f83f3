"""Who is in a match: players, and the sessions through which they act."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from gameserver.state import SPECTATORS

if TYPE_CHECKING:
    from gameserver.match.actions import ActionSpec


class Player:
    """A user who plays in this match, as the game sees them. Keep what the game knows of them in the state."""

    __slots__ = ("connected", "id", "joined_at", "name", "role", "slot")

    def __init__(
        self, id: str, name: str, slot: int, role: str = "player", *, connected: bool = True, joined_at: float = 0.0
    ) -> None:
        self.id = id
        self.name = name
        self.slot = slot
        """A small number, unique among those who are in the match."""
        self.role = role
        self.connected = connected
        self.joined_at = joined_at
        """In seconds of match time."""

    def __repr__(self) -> str:
        return f"Player({self.id!r}, slot={self.slot})"


class Queued(msgspec.Struct, eq=False):
    """An action that was accepted and waits for its turn."""

    session: Session
    seq: int
    crc: int
    spec: ActionSpec | None
    """None: the game has no action of this name, which is the outcome when its turn comes."""
    name: str | int
    args: Any
    quiet: bool
    at_us: int
    """When it arrived, in match time."""
    done: bool = False


Result = tuple[int, int, int, bool, Any]
"""What became of an action: seq, checksum of its body, version, whether it failed, its result. Kept by the thousand."""


class Session:
    """One user's presence in the match: the numbering of their actions and the outcomes that can still be asked for."""

    __slots__ = ("applied", "id", "player", "queue", "rates", "received", "replaced", "results", "user")

    def __init__(self, id: str, user: str, player: Player | None) -> None:
        self.id = id
        self.user = user
        self.player = player
        """None: a spectator."""
        self.received = 0
        """The highest seq that was accepted."""
        self.applied = 0
        """The highest seq that has an outcome."""
        self.results: dict[int, Result] = {}
        """Seq → outcome, for the last ones."""
        self.queue: deque[Queued] = deque()
        self.rates: dict[str, int] = {}
        """Action → when its bucket is full again, in match time; part of snapshots like all else here."""
        self.replaced: str | None = None
        """The session whose seat this one took over."""

    @property
    def slot(self) -> int:
        """The player's slot; -1 for a spectator."""
        return -1 if self.player is None else self.player.slot

    @property
    def viewer(self) -> str:
        """Whose view of the state it gets: the player's own, or the one all spectators share."""
        return SPECTATORS if self.player is None else self.player.id

    @property
    def spectator(self) -> bool:
        """Whether this session only watches."""
        return self.player is None

    def take_rate(self, spec: ActionSpec, now_us: int) -> bool:
        """Whether the action's rate allows one more now. What it takes is not given back when the action fails."""
        full_at = max(self.rates.get(spec.name, 0), now_us)
        if full_at - now_us > spec.burst_us:
            return False
        self.rates[spec.name] = full_at + spec.interval_us
        return True

    def __repr__(self) -> str:
        return f"Session({self.id!r}, user={self.user!r})"
