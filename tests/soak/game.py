"""What the crowd plays: the arena, in which every tick changes something, and of which an empty match soon ends."""

from __future__ import annotations

from gameserver.examples import arena


class Arena(arena.Arena):
    """Seats and matches do not outlast their players for long: what stays behind is a leak."""

    empty_seconds = 1.0
    seat_hold_seconds = 2.0

    beats: int = 0

    def on_tick(self, dt: float) -> None:
        self.beats += 1
        super().on_tick(dt)
