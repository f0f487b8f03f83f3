"""The output gate: acknowledgements, HIGH events and effects leave when what they speak of cannot be lost any more.

Every output of a match goes commit → gate → release. `commit` hands the output over; the gate answers whether its
gated part may leave right away, in the same write as its patch, or calls `release` later. Per match, releases come in
the order of the commits, and never before `commit` has returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.match import MatchOutput


class Gate(Protocol):
    """Decides when the gated part of an output may leave."""

    def commit(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> bool:
        """True: the gated part may leave now. False: `release(output)` will be called when it may."""

    def forget(self, match_id: str) -> None:
        """The match is not hosted here any more: nothing of it is released after this."""


class OpenGate:
    """Lets everything through at once: what snapshots alone can promise."""

    def commit(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> bool:
        """Always open."""
        return True

    def forget(self, match_id: str) -> None:
        """Nothing is ever held here."""
