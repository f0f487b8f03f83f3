"""One connection's state machine: which message may come when, how many, and what it has open.

Sans-I/O: the socket's owner asks before it acts, `now` is an argument (monotonic seconds), and refusals are exceptions
with a code. What ends the connection (wrong order, too many messages) has a close code; what concerns one request or
channel has none, and the connection goes on.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any, Final

from gameserver.access import Claims, Permission, check_permission
from gameserver.errors import (
    BudgetExceeded,
    ConfigError,
    HelloExpected,
    HelloRepeated,
    HelloTimeout,
    LimitReached,
    MessageTypeUnknown,
    NotJoined,
    ProtocolVersionUnsupported,
    RequestPending,
)
from gameserver.protocol import PROTOCOL_VERSION, Action, ClientMessage, Hello, Join, Leave, Ping, Request

ROUNDING_SECONDS: Final = 1e-6  # sums of small times: never a reason to refuse
MESSAGE_BYTES_PER_TOKEN: Final = 1_024
"""A message costs one token and one more for each of these: what it costs to decode grows with its size."""


class ConnectionState(StrEnum):
    """Where a connection is in its life."""

    NEW = "new"
    """Open; nothing said yet."""
    GREETED = "greeted"
    """The hello is here, its token is being checked."""
    READY = "ready"
    """Welcomed."""
    CLOSING = "closing"
    """The server is closing it: what still arrives is not looked at."""


class Verdict(Enum):
    """What to do with a message of this type in this state."""

    HANDLE = "handle"
    IGNORE = "ignore"
    HELLO_EXPECTED = "hello expected"
    HELLO_REPEATED = "hello repeated"


_MESSAGE_TYPES: Final[tuple[type[ClientMessage], ...]] = (Hello, Join, Action, Leave, Request, Ping)
_AFTER_WELCOME: Final[tuple[type[ClientMessage], ...]] = (Join, Action, Leave, Request, Ping)

TRANSITIONS: Final[dict[ConnectionState, dict[type[ClientMessage], Verdict]]] = {
    ConnectionState.NEW: {Hello: Verdict.HANDLE, **dict.fromkeys(_AFTER_WELCOME, Verdict.HELLO_EXPECTED)},
    # A client waits for its welcome: until then nobody knows who it is.
    ConnectionState.GREETED: {Hello: Verdict.HELLO_REPEATED, **dict.fromkeys(_AFTER_WELCOME, Verdict.HELLO_EXPECTED)},
    ConnectionState.READY: {Hello: Verdict.HELLO_REPEATED, **dict.fromkeys(_AFTER_WELCOME, Verdict.HANDLE)},
    ConnectionState.CLOSING: dict.fromkeys(_MESSAGE_TYPES, Verdict.IGNORE),
}
"""The whole machine: state x message type -> verdict."""

JOIN_PERMISSIONS: Final = {
    "match": Permission.MATCH_JOIN,
    "game": Permission.MATCH_JOIN,
    "create": Permission.MATCH_CREATE,
}


class ConnectionPolicy:
    """What one connection may use. Not changed once it is made."""

    __slots__ = (
        "budget_seconds", "channels_max", "hello_timeout_seconds", "messages_burst", "messages_per_second",
        "requests_max", "token_seconds",
    )  # fmt: skip

    def __init__(
        self,
        *,
        hello_timeout_seconds: float = 10.0,
        messages_per_second: float = 100.0,
        messages_burst: float = 200.0,
        channels_max: int = 16,
        requests_max: int = 32,
    ) -> None:
        if messages_per_second <= 0 or messages_burst < 1:
            raise ConfigError("messages_per_second must be above zero, and messages_burst at least one")
        self.hello_timeout_seconds = hello_timeout_seconds
        self.messages_per_second = messages_per_second
        self.messages_burst = messages_burst
        self.channels_max = channels_max
        self.requests_max = requests_max
        """Joins, leaves and requests that are being answered at the same time."""
        self.token_seconds = 1.0 / messages_per_second
        """In which time one message more may come."""
        self.budget_seconds = messages_burst * self.token_seconds
        """From nothing left to everything left."""


DEFAULT_POLICY: Final = ConnectionPolicy()


class SessionMachine:
    """What one connection has said and has open. The order of use for each message: `admit`, decode, `accept`."""

    __slots__ = ("_full_at", "_requests", "_state", "_verdicts", "channels", "claims", "hello_deadline", "policy")

    def __init__(self, policy: ConnectionPolicy = DEFAULT_POLICY, *, now: float) -> None:
        self.policy = policy
        self.claims: Claims | None = None
        self._enter(ConnectionState.NEW)
        self.hello_deadline = now + policy.hello_timeout_seconds
        """When the hello must be here (same clock as `now`)."""
        self._full_at = now  # the message budget in one number: when all of it will be there again
        self.channels: dict[int, Any] = {}
        """The open channels, and what the owner of the connection keeps for each."""
        self._requests: set[int] | None = None  # most connections have none, most of the time

    # --- each message -------------------------------------------------------------------------------------------------
    def admit(self, size_bytes: int, now: float) -> None:
        """Before decoding: raises BudgetExceeded if the connection sends more than it may."""
        policy = self.policy
        if self._full_at <= now and size_bytes < MESSAGE_BYTES_PER_TOKEN:  # all of it is there: most of the time
            self._full_at = now + policy.token_seconds
            return
        full_at = (self._full_at if self._full_at > now else now) + policy.token_seconds
        if size_bytes >= MESSAGE_BYTES_PER_TOKEN:
            # No message costs more than a full budget: one of the largest size may always be sent after a pause.
            tokens = min(1 + size_bytes // MESSAGE_BYTES_PER_TOKEN, policy.messages_burst)
            full_at += (tokens - 1) * policy.token_seconds
        if full_at - now > policy.budget_seconds + ROUNDING_SECONDS:
            raise BudgetExceeded(f"at most {policy.messages_per_second:g} messages a second on average")
        self._full_at = full_at

    def accept(self, message: ClientMessage) -> bool:
        """Whether to handle the message (False: ignore it); raises what the table says. A hello is noted as said."""
        verdict = self._verdicts.get(type(message))
        if verdict is Verdict.HANDLE:
            if type(message) is Hello:
                if message.version != PROTOCOL_VERSION:
                    raise ProtocolVersionUnsupported(
                        f"this server speaks protocol version {PROTOCOL_VERSION}, not {message.version}"
                    )
                self._enter(ConnectionState.GREETED)
            return True
        if verdict is Verdict.IGNORE:
            return False
        if verdict is Verdict.HELLO_REPEATED:
            raise HelloRepeated
        if verdict is Verdict.HELLO_EXPECTED:
            if self._state is ConnectionState.GREETED:
                raise HelloExpected("wait for the welcome before the next message")
            raise HelloExpected
        raise MessageTypeUnknown

    def check_hello_deadline(self, now: float) -> None:
        """Raises HelloTimeout when the hello is overdue; call it at `hello_deadline`."""
        if self._state is ConnectionState.NEW and now >= self.hello_deadline:
            raise HelloTimeout(f"the hello must arrive within {self.policy.hello_timeout_seconds:g} seconds")

    # --- its life -----------------------------------------------------------------------------------------------------
    @property
    def state(self) -> ConnectionState:
        """Where the connection is in its life."""
        return self._state

    def welcome(self, claims: Claims) -> None:
        """The token was good: from now on this is who the connection belongs to."""
        if self._state is not ConnectionState.GREETED:
            raise HelloExpected
        self.claims = claims
        self._enter(ConnectionState.READY)

    def close(self) -> None:
        """The server closes the connection: ignore what still comes."""
        self._enter(ConnectionState.CLOSING)

    # --- requests: one number, one answer -----------------------------------------------------------------------------
    def open_request(self, request: int) -> None:
        """Note a join, leave or request as under way; raises RequestPending or LimitReached (neither ends anything)."""
        requests = self._requests
        if requests is None:
            requests = self._requests = set()
        if request in requests:
            raise RequestPending(f"request {request} is still being answered: use another number")
        if len(requests) >= self.policy.requests_max:
            raise LimitReached(f"at most {self.policy.requests_max} requests at the same time")
        requests.add(request)

    def close_request(self, request: int) -> None:
        """It was answered: the number is free again."""
        if self._requests is not None:
            self._requests.discard(request)
            self._requests = self._requests or None

    def check_join(self, message: Join) -> None:
        """Whether this user may ask for this join: raises PermissionDenied, or LimitReached for the channels."""
        if self.claims is None:
            raise HelloExpected
        permission = Permission.MATCH_SPECTATE if message.spectate else JOIN_PERMISSIONS[message.kind]
        check_permission(self.claims.role, permission)
        if message.spectate and message.kind == "create":
            check_permission(self.claims.role, Permission.MATCH_CREATE)
        if len(self.channels) >= self.policy.channels_max:
            raise LimitReached(f"at most {self.policy.channels_max} matches on one connection")

    # --- channels -----------------------------------------------------------------------------------------------------
    def open_channel(self, channel: int, session: Any) -> None:
        """The join succeeded; raises LimitReached (joins that ran at the same time may fill the last channel)."""
        if channel not in self.channels and len(self.channels) >= self.policy.channels_max:
            raise LimitReached(f"at most {self.policy.channels_max} matches on one connection")
        self.channels[channel] = session

    def session_of(self, channel: int) -> Any:
        """What stands behind a channel; raises NotJoined (no reason to close: it may have just been closed)."""
        session = self.channels.get(channel)
        if session is None:
            raise NotJoined(f"this connection has not joined channel {channel}")
        return session

    def close_channel(self, channel: int) -> Any:
        """The channel is over; gives back what stood behind it, None if there was none."""
        return self.channels.pop(channel, None)

    def _enter(self, state: ConnectionState) -> None:
        self._state = state
        self._verdicts = TRANSITIONS[state]
