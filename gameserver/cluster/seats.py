"""One place in a match that runs elsewhere: its session, what its clients have, and actions until they are settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gameserver.cluster.owner import FULL_VERSION

if TYPE_CHECKING:
    import asyncio

    from msgspec import Raw

    from gameserver.cluster.member import Member
    from gameserver.match import Args, User
    from gameserver.protocol import Ack, Resume

KEPT_MAX = 256  # actions of one session without an outcome; an honest client has at most its window of them
RESEND_SECONDS = 1.0
RESEND_SECONDS_MAX = 5.0
SEQ_GAP = "seq_gap"


class View(NamedTuple):
    """What a member is told about its session."""

    id: str
    viewer: str
    slot: int
    spectator: bool


class Kept(NamedTuple):
    """An action that may have to be sent again."""

    seq: int
    name: str | int
    args: Args | Raw
    """As they came, if they may be passed on so."""
    quiet: bool
    crc: int | None = None


@dataclass(slots=True)
class Joining:
    """Somebody who waits to be let in."""

    user: User
    future: asyncio.Future[Member | None]
    """None: the member that was made; otherwise another one in its place, because the match is run here now."""


class Seat:
    """A player's place, or the one that all spectators on this node share."""

    __slots__ = (
        "asked_at",
        "attached",
        "attempt",
        "epoch",
        "events_total",
        "events_version",
        "in_step",
        "joining",
        "kept",
        "members",
        "number",
        "resend_at",
        "resend_soon",
        "resends",
        "resume",
        "session",
        "settled",
        "slot",
        "spectator",
        "users",
        "version",
        "viewer",
        "wanting",
    )

    def __init__(self, number: int, *, spectator: bool, resume: Resume | None = None) -> None:
        self.number = number
        self.spectator = spectator
        self.resume = resume
        """What the client came with, until there is a session."""
        self.session = ""
        self.viewer = ""
        self.slot = -1
        self.members: list[Member] = []
        self.users: dict[Member, User] = {}
        self.joining: dict[Member, Joining] = {}
        self.wanting: set[Member] = set()
        """Members that lagged, have drained, and wait for a full state."""
        self.attached = False
        """The owner knows the session as being here."""
        self.in_step = False
        """Its members have all that came over the bus; if not, they get nothing until they are told where it stands."""
        self.attempt = 0
        self.asked_at: float | None = None
        self.epoch = 0
        self.version = 0
        self.events_version = 0
        self.events_total = 0
        self.kept: dict[int, Kept] = {}
        self.settled = 0
        """The client takes all actions up to this one as done."""
        self.resend_at = 0.0
        self.resends = 0
        self.resend_soon = False

    def position(self, epoch: int) -> tuple[str, int, int, int | None, int | None] | None:
        """What to name when asking where the match stands."""
        resume = self.resume
        attempt = None if resume is None else resume.attempt
        if not self.session:
            if resume is None:
                return None
            return (resume.session, resume.epoch, resume.version, resume.events_version, attempt)
        if self.joining or self.wanting or self.in_step:
            return (self.session, epoch or self.epoch, FULL_VERSION, self.events_version, attempt)
        return (self.session, self.epoch, self.version, self.events_version, attempt)

    def seat(self, member: Member, user: User) -> None:
        """A member has arrived."""
        member.session_id, member.viewer, member.slot = self.session, self.viewer, self.slot
        member.spectator = self.spectator
        self.members.append(member)
        self.users[member] = user

    def unseat(self, member: Member) -> bool:
        """A member is gone; whether it was here."""
        self.joining.pop(member, None)
        self.wanting.discard(member)
        self.users.pop(member, None)
        if member not in self.members:
            return False
        self.members.remove(member)
        return True

    @property
    def empty(self) -> bool:
        """Whether nobody is left."""
        return not self.members and not self.joining

    def keep(self, action: Kept, now: float) -> None:
        """Keep an action until it is settled.

        While others follow, the owner says by itself if one is missing: only the last one can be lost unseen.
        """
        if not self.kept:
            self.resends = 0
        if not self.resends:
            self.resend_at = now + RESEND_SECONDS
        self.kept[action.seq] = action

    def settle(self, ack: Ack, now: float) -> bool:
        """What an acknowledgement says of kept actions; False: it is between the owner and us, and not for the client.

        An action that was lost on the bus is sent again, and the client need not know. So is one whose answer was lost:
        clients take an answer for one to all before it, so none may be left out.
        """
        if not ack.refused:
            if any(seq < ack.seq and not kept.quiet for seq, kept in self.kept.items()):
                self.resend_soon = True
                return False
            for seq in [seq for seq in self.kept if seq <= ack.seq]:
                del self.kept[seq]
            self.settled = max(self.settled, ack.seq)
            self.resends = 0
            self.resend_at = now + RESEND_SECONDS
            return True
        code, _, retryable = ack.result
        if code == SEQ_GAP and any(seq < ack.seq for seq in self.kept):
            self.resend_soon = True
            return False
        if not retryable:
            self.kept.pop(ack.seq, None)
        return True

    def take_due(self, now: float) -> bool:
        """Whether it is time to send again what has no outcome."""
        if not self.kept or now < self.resend_at:
            return False
        self.resends += 1
        self.resend_at = now + min(RESEND_SECONDS * 2**self.resends, RESEND_SECONDS_MAX)
        return True
