"""What a client that comes back gets: the versions it missed, the whole state, or a new session. Pure: a table.

Parts of the state that only some may see are addressed by viewer and version, and a held seat stays a viewer: who
joined or left which group while the client was away is in the versions themselves and needs no row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class Answer(StrEnum):
    """What the join with a resume is answered with."""

    TAIL = "tail"
    """Nothing was missed: the versions after its position follow."""
    FULL = "full"
    """The session goes on, from a full state."""
    NO_SESSION = "no_session"
    """The session is not there, or not this user's: an ordinary join."""


class Reason(StrEnum):
    """Why; for logs and tests."""

    UNKNOWN_SESSION = "unknown_session"
    FOREIGN_SESSION = "foreign_session"
    LATER_EPOCH = "later_epoch"
    LOST_HISTORY = "lost_history"
    EARLIER_EPOCH = "earlier_epoch"
    AHEAD = "ahead"
    TOO_OLD = "too_old"
    CONTIGUOUS = "contiguous"


@dataclass(frozen=True, slots=True)
class Returning:
    """A client's claim and the match it makes it to."""

    session_user: str | None
    """Whose session it is; None: the match has no such session."""
    user: str
    epoch: int
    """The client's position: this and `version`."""
    version: int
    match_epoch: int
    base_version: int
    """What this epoch began with."""
    sent_version: int
    """The last version that was sent to players."""
    oldest: int
    """The oldest version that can be sent again; `sent_version` + 1 if there is none."""


@dataclass(frozen=True, slots=True)
class Row:
    """If `when` holds, and none of the rows above did, this is the answer."""

    reason: Reason
    answer: Answer
    when: Callable[[Returning], bool]


RESUME_TABLE: Final[tuple[Row, ...]] = (
    Row(Reason.UNKNOWN_SESSION, Answer.NO_SESSION, lambda it: it.session_user is None),
    Row(Reason.FOREIGN_SESSION, Answer.NO_SESSION, lambda it: it.session_user != it.user),
    # From a server that took the match over and lost it again before this one, or made up: what it saw is not ours.
    Row(Reason.LATER_EPOCH, Answer.FULL, lambda it: it.epoch > it.match_epoch),
    # It has seen versions that were lost with the server before this one.
    Row(Reason.LOST_HISTORY, Answer.FULL, lambda it: it.epoch < it.match_epoch and it.version > it.base_version),
    # Frames are kept by the server that made them, and its classes may have been others than ours.
    Row(Reason.EARLIER_EPOCH, Answer.FULL, lambda it: it.epoch < it.match_epoch),
    Row(Reason.AHEAD, Answer.FULL, lambda it: it.version > it.sent_version),
    Row(Reason.TOO_OLD, Answer.FULL, lambda it: it.version + 1 < it.oldest),
    Row(Reason.CONTIGUOUS, Answer.TAIL, lambda it: True),
)
"""The whole decision, from the first row to the last."""


def decide_resume(returning: Returning) -> Row:
    """The row of the table that applies."""
    return next(row for row in RESUME_TABLE if row.when(returning))


def events_position(returning: Returning, events_version: int | None) -> int:
    """After which version HIGH events are sent again.

    What was seen of versions that were lost does not count: the versions that took their place have other events.
    """
    seen = returning.version if events_version is None else events_version
    if returning.epoch < returning.match_epoch:
        return min(seen, returning.base_version)
    return min(seen, returning.sent_version)
