"""Every error the server can tell anyone about: one tree, one table of codes.

An error has a `code` (stable, for programs), a message (for people; says what to do), `retryable` (may the same
request succeed later, unchanged?) and, where the connection ends with it, a WebSocket `close_code`.
Close codes in 4000-4499 tell a client not to reconnect by itself; 4500-4999 tell it to reconnect with backoff.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class GameServerError(Exception):
    """Base of all errors with a stable code."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    close_code: ClassVar[int | None] = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message or _meaning(type(self)))

    @property
    def message(self) -> str:
        """The text for people."""
        return str(self.args[0])


def _meaning(error: type[GameServerError]) -> str:
    """The first line of the class's docstring; its code where an author's subclass has none."""
    return next(iter((error.__doc__ or error.code).strip().splitlines()), error.code)


# --- state -----------------------------------------------------------------------------------------------------------
class StateError(GameServerError):
    """The state would not be valid: a node in two places, a value that cannot be stored, a wrong type."""

    code = "state_invalid"


# --- protocol: what a client may not send -----------------------------------------------------------------------------
class ProtocolError(GameServerError):
    """The message does not follow the protocol."""

    code = "protocol_error"
    close_code = 4400


class TextFrameRefused(ProtocolError):
    """Only binary frames are understood here."""

    code = "text_frame"
    close_code = 4402


class MessageTooLarge(ProtocolError):
    """The message is larger than this server accepts."""

    code = "message_too_large"
    close_code = 4413


class MessageMalformed(ProtocolError):
    """The message is not one well-formed msgpack value."""

    code = "message_malformed"


class MessageTypeUnknown(ProtocolError):
    """There is no such message type in this protocol version."""

    code = "message_type_unknown"


class MessageTooDeep(ProtocolError):
    """The message is nested deeper than this server accepts."""

    code = "message_too_deep"


class FieldInvalid(ProtocolError):
    """A field of the message is missing, of the wrong type or out of range."""

    code = "field_invalid"


class HelloRepeated(ProtocolError):
    """The hello was sent before: there is one per connection."""

    code = "hello_repeated"


class HelloTimeout(ProtocolError):
    """The hello did not arrive in time."""

    code = "hello_timeout"
    retryable = True
    close_code = 4505


class HelloExpected(ProtocolError):
    """The first message must be a hello."""

    code = "hello_expected"
    close_code = 4401


class ProtocolVersionUnsupported(ProtocolError):
    """The server does not speak this protocol version."""

    code = "protocol_version"
    close_code = 4426


class BudgetExceeded(ProtocolError):
    """The connection sends more messages than it may."""

    code = "budget_exceeded"
    close_code = 4429


# --- access -----------------------------------------------------------------------------------------------------------
class AuthenticationRequired(GameServerError):
    """A token is required: send it in the hello."""

    code = "authentication_required"
    close_code = 4001


class TokenInvalid(GameServerError):
    """The token is not valid."""

    code = "token_invalid"
    close_code = 4003


class TokenExpired(TokenInvalid):
    """The token has expired: get a new one."""

    code = "token_expired"


class PermissionDenied(GameServerError):
    """Your role may not do this."""

    code = "permission_denied"


class RateLimited(GameServerError):
    """Too many requests: slow down."""

    code = "rate_limited"
    retryable = True


# --- requests ---------------------------------------------------------------------------------------------------------
class RequestInvalid(GameServerError):
    """The request's parameters are not valid."""

    code = "request_invalid"


class NotFound(GameServerError):
    """There is no such thing."""

    code = "not_found"


class MatchNotFound(NotFound):
    """There is no such match on this server."""

    code = "match_not_found"


class GameNotFound(NotFound):
    """There is no such game on this server."""

    code = "game_not_found"


class MatchFull(GameServerError):
    """The match is full."""

    code = "match_full"


class MatchEnded(GameServerError):
    """The match has ended."""

    code = "match_ended"


class JoinRefused(GameServerError):
    """The game refused the join."""

    code = "join_refused"


class NotJoined(GameServerError):
    """The connection has not joined this channel."""

    code = "not_joined"


class LimitReached(GameServerError):
    """A limit of this server is reached."""

    code = "limit_reached"
    retryable = True


class RequestPending(RequestInvalid):
    """This request number is still being answered: use another one."""

    code = "request_pending"


class ConnectionLimitReached(LimitReached):
    """The server has no room for another connection: try again later."""

    code = "connection_limit"
    close_code = 4529


# --- actions ----------------------------------------------------------------------------------------------------------
class ActionError(GameServerError):
    """Base of what can go wrong with one action; the connection and the match go on."""

    code = "action_error"


class ActionUnknown(ActionError):
    """The game has no such action."""

    code = "action_unknown"


class ActionInvalid(ActionError):
    """The action's arguments are not valid."""

    code = "action_invalid"


class ActionRefused(ActionError):
    """The game refused the action (raise it in game code to tell the player why)."""

    code = "action_refused"


class GameCodeError(ActionError):
    """The game's own code failed; everything it did was rolled back."""

    code = "game_error"


class SeqGap(ActionError):
    """An earlier action is missing: send it first."""

    code = "seq_gap"
    retryable = True


class SeqReused(ActionError):
    """This sequence number was used with another body."""

    code = "seq_reused"


class SeqTooOld(ActionError):
    """This action was applied, its result is no longer kept."""

    code = "seq_too_old"


class OutcomeUnknown(ActionError):
    """The server cannot say yet whether the action will last: resend the same seq, never a new one."""

    code = "outcome_unknown"
    retryable = True


# --- the server's own state -------------------------------------------------------------------------------------------
class InternalError(GameServerError):
    """The server failed; it was logged."""

    code = "internal"
    retryable = True
    close_code = 4500


class SessionReplaced(GameServerError):
    """The same user joined this match from another connection."""

    code = "session_replaced"
    close_code = 4409


class ServerDraining(GameServerError):
    """The server is going down: reconnect, another one takes over."""

    code = "server_draining"
    retryable = True
    close_code = 4503


class MatchMoved(GameServerError):
    """Another node of the server runs this match now: join it again, your seat is kept."""

    code = "match_moved"
    retryable = True


class SlowConsumer(GameServerError):
    """The connection did not read what was sent to it."""

    code = "slow_consumer"
    retryable = True
    close_code = 4508


class HeartbeatLost(GameServerError):
    """The connection did not answer the heartbeat."""

    code = "heartbeat_lost"
    retryable = True
    close_code = 4504


class ConfigError(GameServerError):
    """The configuration is not valid."""

    code = "config_invalid"


# --- storage ----------------------------------------------------------------------------------------------------------
class StoreUnavailable(GameServerError):
    """A store does not answer."""

    code = "store_unavailable"
    retryable = True


class SnapshotCorrupt(GameServerError):
    """A snapshot does not match its checksum or format."""

    code = "snapshot_corrupt"


class SnapshotTooNew(GameServerError):
    """A newer server wrote this snapshot: it is left to one that can read it."""

    code = "snapshot_too_new"


class JournalCorrupt(SnapshotCorrupt):
    """A match's journal, snapshot or token is damaged or has a gap."""

    code = "journal_corrupt"


class ClaimLost(GameServerError):
    """Another node claimed the match."""

    code = "claim_lost"


class MatchExists(GameServerError):
    """This match id is or was in use: choose another one."""

    code = "match_exists"


class MatchQuarantined(GameServerError):
    """The match was set aside for an operator to look at."""

    code = "match_quarantined"


class DataFolderInUse(GameServerError):
    """Another server uses this data folder."""

    code = "data_folder_in_use"


# --- close codes: one table -------------------------------------------------------------------------------------------
class CloseCode(NamedTuple):
    """One WebSocket close code this server uses."""

    close_code: int
    code: str
    meaning: str
    reconnect: bool


def close_code_of(error: GameServerError | type[GameServerError]) -> int:
    """The close code a connection ends with because of this error (4500 where the error has none of its own)."""
    return error.close_code if error.close_code is not None else 4500


def should_reconnect(close_code: int) -> bool:
    """Whether a client should reconnect by itself, with backoff, after this close code.

    Of the server's own codes 4500-4999 say yes and 4000-4499 no. Of the standard ones 1000 (asked for) and the ones
    that say the peers do not understand each other (1002, 1003, 1007, 1008, 1009, 1010) say no.
    """
    if 4000 <= close_code <= 4999:
        return close_code >= 4500
    return close_code not in (1000, 1002, 1003, 1007, 1008, 1009, 1010)


def close_code_table() -> list[CloseCode]:
    """Every close code of the error tree, in order; where a subclass shares its parent's code, the parent is listed."""
    found: dict[int, CloseCode] = {}
    pending: list[type[GameServerError]] = [GameServerError]
    while pending:  # breadth first: parents come before what they share their code with
        error = pending.pop(0)
        pending.extend(error.__subclasses__())
        if error.close_code is not None and error.close_code not in found:
            reconnect = should_reconnect(error.close_code)
            found[error.close_code] = CloseCode(error.close_code, error.code, _meaning(error), reconnect)
    return [found[close_code] for close_code in sorted(found)]
