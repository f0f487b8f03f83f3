"""Who is in a match: players, and the sessions through which they act."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gameserver.match.rows import row_head
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


Outcome = tuple[int, int, bool, Any]
"""What became of an action: checksum of its body, version, whether it failed, its result."""
_CRC_BITS: Final = 32
_CRC_MASK: Final = 2**32 - 1
_VERSION_MAX: Final = 2**31 - 1


class Session:
    """One user's presence in the match: the numbering of their actions and the outcomes that can still be asked for."""

    __slots__ = (
        "_outcomes", "_successes", "acted", "applied", "id", "left", "player", "rates", "received", "replaced",
        "row_head", "user",
    )  # fmt: skip

    def __init__(self, id: str, user: str, player: Player | None) -> None:
        self.id = id
        self.user = user
        self.player = player
        """None: a spectator."""
        self.received = 0
        """The highest seq that was accepted."""
        self.applied = 0
        """The highest seq that has an outcome."""
        self.acted = False
        """It has an outcome since the last flush."""
        self.row_head = row_head(id)
        """What its rows in the journal begin with."""
        # What became of the last ones, in a ring: `seq` has its place at (seq - 1) % kept. There are many: a success
        # without a result is one number of 64 bits, version and checksum; what is more is 0 there, and in the dict.
        self._successes: array[int] | None = None
        self._outcomes: dict[int, Outcome] | None = None
        self.rates: dict[str, int] = {}
        """Action → when its bucket is full again, in match time; part of snapshots like all else here."""
        self.replaced: str | None = None
        """The session whose seat this one took over."""
        self.left = False
        """It is not in the match any more, and never comes back: it left, or another one has its seat."""

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

    def settle(self, seq: int, crc: int, version: int, error: bool, result: Any, kept: int) -> None:
        """The next seq has its outcome, which can be asked for until `kept` later ones have theirs."""
        if self._successes is None:
            self._successes = array("Q", bytes(8 * kept))
        place = (seq - 1) % kept
        if result is None and not error and version <= _VERSION_MAX:
            self._successes[place] = version << _CRC_BITS | crc
            if self._outcomes is not None:
                self._outcomes.pop(place, None)
        else:
            self._successes[place] = 0
            if self._outcomes is None:
                self._outcomes = {}
            self._outcomes[place] = (crc, version, error, result)
        self.applied = seq

    def outcome(self, seq: int, kept: int) -> Outcome | None:
        """What became of a seq; None if that is not known any more, or not yet."""
        if not max(0, self.applied - kept) < seq <= self.applied:
            return None
        place = (seq - 1) % kept
        success = 0 if self._successes is None else self._successes[place]
        if success:
            return success & _CRC_MASK, success >> _CRC_BITS, False, None
        return None if self._outcomes is None else self._outcomes.get(place)

    def dump_outcomes(self) -> list[Any]:
        """Those that are kept: the ring as it lies in memory, and `[place, *outcome]` where it does not say all."""
        if self._successes is None:
            return []
        others = self._outcomes
        return [bytes(self._successes), [] if others is None else [[place, *others[place]] for place in others]]

    def load_outcomes(self, dumped: Sequence[Any], kept: int) -> None:
        """The inverse, up to what was `applied`; another number may have been kept then."""
        if not dumped:
            self._successes = self._outcomes = None
            return
        ring, rows = array("Q", dumped[0]), {row[0]: tuple(row[1:]) for row in dumped[1]}
        successes = array("Q", bytes(8 * kept))
        others: dict[int, Outcome] = {}
        for seq in range(max(0, self.applied - min(kept, len(ring))), self.applied):
            was, place = seq % len(ring), seq % kept
            successes[place] = ring[was]
            if was in rows:
                others[place] = rows[was]
        self._successes, self._outcomes = successes, others or None

    def __repr__(self) -> str:
        return f"Session({self.id!r}, user={self.user!r})"
