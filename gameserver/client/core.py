"""The client without a socket: what to send, and what a received message means.

Pure: no clock, no I/O. A *ticket* is whatever the shell wants back with the answer (it uses futures); `receive` turns
the bytes of one message into outcomes, in the order in which they are to be carried out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gameserver.client.errors import RoomLeft, error_from
from gameserver.client.outcomes import (
    ActionFailed,
    Answered,
    Changed,
    Disconnected,
    Ended,
    Happened,
    Offered,
    Outcome,
    Reconnected,
    Refused,
    ResendLater,
    Write,
)
from gameserver.client.room_core import RoomCore
from gameserver.errors import GameServerError, MessageTypeUnknown, NotJoined, RequestInvalid
from gameserver.protocol import (
    Ack,
    Closed,
    ErrorMessage,
    Events,
    Frame,
    Hello,
    Join,
    JoinDetails,
    Joined,
    Leave,
    Moved,
    Part,
    Ping,
    Pong,
    Reply,
    Request,
    StateMessage,
    Welcome,
    WelcomeInfo,
    decode_server,
    encode_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.protocol import ClientMessage

JoinKind = Literal["match", "game", "create"]

__all__ = [
    "ActionFailed",
    "Answered",
    "Changed",
    "ClientCore",
    "Disconnected",
    "Ended",
    "Happened",
    "Offered",
    "Outcome",
    "Reconnected",
    "Refused",
    "ResendLater",
    "RoomCore",
    "Write",
]

HELLO_REQUEST = 0  # the hello has no request number of its own; ours start at 1


class ClientCore:
    """Everything a client knows, over all its connections: `cut` stands between one and the next.

    `rejoins`: rooms that the server closes for now are kept, to be joined again; otherwise they end.
    """

    def __init__(self, *, rejoins: bool = False) -> None:
        self.rejoins = rejoins
        self.info: WelcomeInfo | None = None
        self.rooms: dict[int, RoomCore] = {}
        self.away: list[RoomCore] = []  # out of reach, to be joined again
        self.last_error: GameServerError | None = None  # what the server complained about before it closes
        self._tickets: dict[int, Any] = {}
        self._leaving: dict[int, RoomCore] = {}
        self._rejoining: dict[int, RoomCore] = {}
        self._request = 0

    # --- what to send -------------------------------------------------------------------------------------------------
    def hello(self, token: str | None, info: dict[str, Any], ticket: Any) -> bytes:
        """The first message; its answer is the welcome's info."""
        self._tickets[HELLO_REQUEST] = ticket
        return encode_client(Hello(token=token, info=info))

    def join(self, kind: JoinKind, name: str, details: JoinDetails, ticket: Any) -> bytes:
        """Join a match; its answer is a `RoomCore`."""
        return self._encode_request(ticket, lambda number: Join(number, kind, name, details))

    def rejoin(self, room: RoomCore, ticket: Any) -> bytes:
        """Join a room again that is away; its answer comes when it is back."""
        details = room.details()
        data = self._encode_request(ticket, lambda number: Join(number, "match", room.match_id, details))
        self._rejoining[self._request] = room
        return data

    def request(self, method: str, params: dict[str, Any], ticket: Any) -> bytes:
        """Ask the server for something outside of a match."""
        return self._encode_request(ticket, lambda number: Request(number, method, params))

    def leave(self, room: RoomCore, ticket: Any) -> bytes:
        """Leave a match; its answer comes when the server knows."""
        data = self._encode_request(ticket, lambda number: Leave(number, room.channel))
        self._leaving[self._request] = room
        return data

    def ping(self, ticket: Any) -> bytes:
        """Ask whether the server is there; the answer is its time in unix milliseconds."""
        return self._encode_request(ticket, Ping)

    def forget(self, ticket: Any) -> None:
        """Nobody waits for this answer any more: it timed out or was cancelled."""
        for number in [number for number, other in self._tickets.items() if other is ticket]:
            del self._tickets[number]

    def _encode_request(self, ticket: Any, message: Callable[[int], ClientMessage]) -> bytes:
        """Number a request and remember who asked; nothing is remembered when it cannot be encoded."""
        number = self._request + 1
        try:
            data = encode_client(message(number))
        except (TypeError, ValueError, OverflowError) as failure:
            raise RequestInvalid(f"options and parameters are plain data: {failure}") from None
        self._request = number
        if ticket is not None:
            self._tickets[number] = ticket
        return data

    # --- what a message means -----------------------------------------------------------------------------------------
    def receive(self, data: bytes) -> list[Outcome]:
        """One message from the server. Raises `ProtocolError` when it is none."""
        try:
            message = decode_server(data)
        except MessageTypeUnknown:
            return []  # from a newer server; what we need to know comes in messages we know
        match message:
            case Frame() | Part() | Events() | Ack() | StateMessage():
                room = self.rooms.get(message.channel)
                return [] if room is None else self._room_message(room, message)
            case Joined():
                outcomes = self._joined(message)
                room = self.rooms.get(message.channel)
                if room is None or not message.info.address:
                    return outcomes
                return [*outcomes, Offered(room, message.info.address)]
            case Reply():
                return self._reply(message)
            case ErrorMessage():
                return self._error(message)
            case Closed():
                return self._closed(message)
            case Pong():
                return self._answered(message.nonce, message.server_time_ms)
            case Welcome():
                self.info = message.info
                return self._answered(HELLO_REQUEST, message.info)
            case Moved():
                room = self.rooms.get(message.channel)
                return [] if room is None else [Offered(room, message.address)]

    def cut(self, error: GameServerError) -> list[Outcome]:
        """The connection is gone, and another one is to follow: questions fail, rooms wait to be joined again."""
        outcomes: list[Outcome] = []
        for request, room in self._leaving.items():  # the server gives the seat up by itself, a little later
            outcomes += self._answered(request, None)
            outcomes += self.end(room, RoomLeft(), reconnect=False)
        outcomes += self._fail_questions(error)
        for room in self.rooms.values():
            self.away.append(room)
            outcomes += room.disconnected(error)
        self.rooms.clear()
        self.last_error = None
        return outcomes

    def lost(self, error: GameServerError, *, reconnect: bool) -> list[Outcome]:
        """The connection is gone for good: fail everything that waits and end every room."""
        outcomes = self._fail_questions(error)
        for room in [*self.rooms.values(), *self.away]:
            outcomes += self.end(room, error, reconnect=reconnect)
        return outcomes

    def end(self, room: RoomCore, error: GameServerError, *, reconnect: bool) -> list[Outcome]:
        """Give up a room, connected or away."""
        if room in self.away:
            self.away.remove(room)
        if self.rooms.get(room.channel) is room:
            del self.rooms[room.channel]
        return room.end(error, reconnect=reconnect)

    def _fail_questions(self, error: GameServerError) -> list[Outcome]:
        tickets = list(self._tickets.values())
        self._tickets.clear()
        self._leaving.clear()
        self._rejoining.clear()
        return [Refused(ticket, error) for ticket in tickets]

    def _closed(self, message: Closed) -> list[Outcome]:
        room = self.rooms.pop(message.channel, None)
        if room is None:
            return []
        if room in self._leaving.values():
            return room.end(RoomLeft(), reconnect=False)
        error = error_from(message.code, message.message, retryable=message.reconnect)
        if not (self.rejoins and message.reconnect):
            return room.end(error, reconnect=message.reconnect)
        self.away.append(room)
        return room.disconnected(error)

    def _room_message(self, room: RoomCore, message: Frame | Part | Events | Ack | StateMessage) -> list[Outcome]:
        match message:
            case Frame():
                return room.frame(message)
            case Part():
                return room.part(message)
            case Events():
                return room.events(message)
            case Ack():
                outcomes = room.acknowledged(message)
                if room.ended is not None:
                    del self.rooms[room.channel]
                return outcomes
            case StateMessage():
                return room.full_state(message)

    def _joined(self, joined: Joined) -> list[Outcome]:
        returning = self._rejoining.pop(joined.request, None)
        if returning is not None and returning in self.away:
            self.away.remove(returning)
            replaced = self._take_channel(joined.channel, returning)
            return [*replaced, *self._answered(joined.request, None), *returning.rejoined(joined)]
        if returning is not None or joined.request not in self._tickets:
            # It was given up meanwhile: give the seat back.
            return [Write(self._encode_request(None, lambda number: Leave(number, joined.channel)))]
        room = RoomCore(joined)
        return self._take_channel(joined.channel, room) + self._answered(joined.request, room)

    def _take_channel(self, channel: int, room: RoomCore) -> list[Outcome]:
        """The same match again on this connection replaces what we had of it; so does a channel used before."""
        replaced = self.rooms.pop(channel, None)
        self.rooms[channel] = room
        return [] if replaced is None else replaced.end(error_from("session_replaced"), reconnect=False)

    def _reply(self, reply: Reply) -> list[Outcome]:
        left = self._leaving.pop(reply.request, None)
        outcomes: list[Outcome] = []
        if left is not None and self.rooms.get(left.channel) is left:
            del self.rooms[left.channel]
            outcomes = left.end(RoomLeft(), reconnect=False)
        return outcomes + self._answered(reply.request, reply.result)

    def _error(self, message: ErrorMessage) -> list[Outcome]:
        error = error_from(message.code, message.message, retryable=message.retryable)
        if message.request is None:
            self.last_error = error  # the reason why the connection is closed next
            return []
        self._rejoining.pop(message.request, None)
        if message.request in self._leaving and isinstance(error, NotJoined):  # out already, as was asked for
            return self._reply(Reply(message.request))
        self._leaving.pop(message.request, None)
        ticket = self._tickets.pop(message.request, None)
        return [] if ticket is None else [Refused(ticket, error)]

    def _answered(self, request: int, value: Any) -> list[Outcome]:
        ticket = self._tickets.pop(request, None)
        return [] if ticket is None else [Answered(ticket, value)]
