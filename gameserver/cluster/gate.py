"""The output gate: acknowledgements, HIGH events and effects leave when what they speak of cannot be lost any more.

Every output of a match goes commit → gate → release. `commit` hands the output over; the gate answers whether its
gated part may leave right away, in the same write as its patch. If not, `hold` has `release` called later. Per match,
releases come in the order of the commits, and never before `hold` has returned.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.cluster.journal import JournalWriter
    from gameserver.match import MatchOutput


class Gate:
    """Decides when the gated part of an output may leave."""

    __slots__ = ()

    def commit(self, match_id: str, output: MatchOutput) -> bool:
        """True: the gated part may leave now. False: `hold` it."""
        raise NotImplementedError

    def hold(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> None:
        """`release(output)` is called when the gated part may leave."""
        raise NotImplementedError


class OpenGate(Gate):
    """Lets everything through at once."""

    __slots__ = ()

    def commit(self, match_id: str, output: MatchOutput) -> bool:
        """Always open."""
        return True


class SnapshotGate(Gate):
    """Open, but for the end: a match must be in the store before it can be taken out of it."""

    __slots__ = ("_writer",)

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer

    def commit(self, match_id: str, output: MatchOutput) -> bool:
        """Nothing is journaled, so nothing is waited for."""
        return output.ended is None or self._writer.token(match_id) is not None

    def hold(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> None:
        """Until the match has been created in the store."""
        self._writer.when_durable(match_id, 0, partial(release, output))


class JournalGate(Gate):
    """Opens when the journal has the output's version: what leaves then survives this process."""

    __slots__ = ("_strict", "_writer")

    def __init__(self, writer: JournalWriter, *, strict: bool = False) -> None:
        """`strict`: patches wait too, so every output of the match does."""
        self._writer = writer
        self._strict = strict

    def commit(self, match_id: str, output: MatchOutput) -> bool:
        """Hands the record to the writer. An output that says nothing that must last is not waited for.

        A stored answer that is given again waits too: what it speaks of may not be in the journal yet.
        """
        if output.committed and output.journal is not None:
            self._writer.commit(match_id, output.version, output.journal, output.high)
        return not (self._strict or is_gated(output)) or self._writer.is_durable(match_id, output.version)

    def hold(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> None:
        """Until the journal has its version."""
        self._writer.when_durable(match_id, output.version, partial(release, output))


def is_gated(output: MatchOutput) -> bool:
    """Is there anything in it that may not be taken back?"""
    return bool(output.acks or output.gated_events or output.effects or output.ended is not None)
