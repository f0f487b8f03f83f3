"""One session's place on one connection, and what it gets when the connection lags."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from gameserver.cluster.receiver import RemoteReceiver
from gameserver.match import Session

if TYPE_CHECKING:
    from gameserver.cluster.receiver import Receiver
    from gameserver.match import ActionSpec, Args
    from gameserver.protocol import Resume


class Flow(IntEnum):
    """What a member gets of a flush."""

    ARRIVING = 0  # has a seat, and gets the full state with the next flush
    LIVE = 1  # gets every frame
    BEHIND = 2  # its connection lags: gets one full state once it has drained
    GONE = 3


class Seating:
    """The match of a member: run here, or carried for the node that runs it. None of its methods may raise."""

    __slots__ = ("actions", "channel", "match_id")

    def __init__(self, match_id: str, channel: int, actions: dict[str | int, ActionSpec]) -> None:
        self.match_id = match_id
        self.channel = channel
        """Its number on this node."""
        self.actions = actions
        """By name and by number, where they are known: their arguments are best decoded by their own types."""

    def receive(
        self, member: Member, seq: int, name: str | int, args: Args, quiet: bool, crc: int | None = None,
        heard_at: float = 0.0,
    ) -> None:
        """One action; `crc` is that of its arguments as they came, if they came encoded.

        `heard_at`: when it arrived, by the host's clock; 0: now.
        """
        raise NotImplementedError

    def pass_on(self, args: Any) -> Any:
        """Arguments, still encoded, as `receive` may get them; None: it wants them decoded."""
        return None

    def leave(self, member: Member, reason: str) -> None:
        """The player gives up the seat."""
        raise NotImplementedError

    def lost(self, member: Member) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def catch_up(self, member: Member) -> None:
        """The member lagged and has drained: it gets a full state."""
        raise NotImplementedError


class Seated(Protocol):
    """A session, as far as a member needs to know it."""

    @property
    def id(self) -> str:
        """Never used again."""

    @property
    def viewer(self) -> str:
        """Whose view of the state it gets."""

    @property
    def slot(self) -> int:
        """The player's slot; -1 for a spectator."""

    @property
    def spectator(self) -> bool:
        """Whether it only watches."""


class Member:
    """A session of a match on a connection: what the connection holds for the channel, and the match for its fan-out.

    The connection calls `receive`, `leave` and `lost`; they never raise.
    """

    __slots__ = (
        "behind_since",
        "events_lost",
        "events_version",
        "flow",
        "held",
        "held_bytes",
        "hosted",
        "receiver",
        "remote",
        "request",
        "resume",
        "session",
        "session_id",
        "slot",
        "spectator",
        "user_id",
        "viewer",
    )

    def __init__(
        self,
        hosted: Seating,
        receiver: Receiver,
        request: int,
        session: Seated,
        user_id: str,
        *,
        events_version: int = 0,
        resume: Resume | None = None,
    ) -> None:
        self.hosted = hosted
        self.receiver = receiver
        self.remote = isinstance(receiver, RemoteReceiver)
        self.request = request
        self.session = session if isinstance(session, Session) else None
        """The engine's own, where the match is run here: an action finds it without a look-up."""
        self.session_id = session.id
        self.viewer = session.viewer
        self.slot = session.slot
        self.spectator = session.spectator
        self.user_id = user_id
        self.flow = Flow.ARRIVING
        self.behind_since = 0.0
        self.events_lost = 0
        self.events_version = events_version  # HIGH events of later versions are sent to it
        self.resume = resume  # what it came back with
        # Acknowledgements and HIGH events of a member that is not live: never dropped, and never before their state.
        self.held: list[bytes] = []
        self.held_bytes = 0

    @property
    def channel(self) -> int:
        """The channel number of the match on this node."""
        return self.hosted.channel

    def receive(self, seq: int, name: str | int, args: Args, quiet: bool, crc: int | None = None) -> None:
        """One action of this session."""
        self.hosted.receive(self, seq, name, args, quiet, crc)

    def leave(self, reason: str = "left") -> None:
        """The player gives up the seat."""
        self.hosted.leave(self, reason)

    def lost(self) -> None:
        """The connection is gone; the seat is kept for a while."""
        self.hosted.lost(self)

    def hold(self, frames: list[bytes]) -> None:
        """Keep frames until the full state has gone out."""
        for frame in frames:
            self.held.append(frame)
            self.held_bytes += len(frame)

    def take_held(self) -> list[bytes]:
        """What was kept, to be written now."""
        held, self.held, self.held_bytes = self.held, [], 0
        return held
