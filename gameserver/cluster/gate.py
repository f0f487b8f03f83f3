"""The output gate: acknowledgements, HIGH events and effects leave when what they speak of cannot be lost any more.

Every output of a match goes commit → gate → release. `commit` hands the output over; the gate answers whether its
gated part may leave right away, in the same write as its patch, or calls `release` later. Per match, releases come in
the order of the commits, and never before `commit` has returned.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.cluster.journal import JournalWriter
    from gameserver.match import MatchOutput


class Gate(Protocol):
    """Decides when the gated part of an output may leave."""

    def commit(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> bool:
        """True: the gated part may leave now. False: `release(output)` will be called when it may."""


class OpenGate:
    """Lets everything through at once."""

    __slots__ = ()

    def commit(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> bool:
        """Always open."""
        return True


class SnapshotGate:
    """Open, but for the end: a match must be in the store before it can be taken out of it."""

    __slots__ = ("_writer",)

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer

    def commit(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> bool:
        """Nothing is journaled, so nothing is waited for."""
        if output.ended is None or self._writer.token(match_id) is not None:
            return True
        self._writer.when_durable(match_id, 0, partial(release, output))
        return False


class JournalGate:
    """Opens when the journal has the output's version: what leaves then survives this process."""

    __slots__ = ("_strict", "_writer")

    def __init__(self, writer: JournalWriter, *, strict: bool = False) -> None:
        """`strict`: patches wait too, so every output of the match does."""
        self._writer = writer
        self._strict = strict

    def commit(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> bool:
        """Hands the record to the writer. An output that says nothing that must last is not waited for.

        A stored answer that is given again waits too: what it speaks of may not be in the journal yet.
        """
        if output.committed and output.journal is not None:
            self._writer.commit(match_id, output.version, output.journal, output.high)
        if not (self._strict or is_gated(output)) or self._writer.is_durable(match_id, output.version):
            return True
        self._writer.when_durable(match_id, output.version, partial(release, output))
        return False


def is_gated(output: MatchOutput) -> bool:
    """Is there anything in it that may not be taken back?"""
    return bool(output.acks or output.gated_events or output.effects or output.ended is not None)
