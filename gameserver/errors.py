"""Every error the server can tell anyone about: one tree, one table of codes.

An error has a `code` (stable, for programs), a message (for people; says what to do), `retryable` (may the same
request succeed later, unchanged?) and, where the connection ends with it, a WebSocket `close_code`.
Close codes in 4000-4499 tell a client not to reconnect by itself; 4500-4999 tell it to reconnect with backoff.
"""

from __future__ import annotations

from typing import ClassVar


class GameServerError(Exception):
    """Base of all errors with a stable code."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    close_code: ClassVar[int | None] = None

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        """The text for people."""
        return str(self.args[0])


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
class SessionReplaced(GameServerError):
    """The same user joined this match from another connection."""

    code = "session_replaced"
    close_code = 4409


class ServerDraining(GameServerError):
    """The server is going down: reconnect, another one takes over."""

    code = "server_draining"
    retryable = True
    close_code = 4503


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


class DataFolderInUse(GameServerError):
    """Another server uses this data folder."""

    code = "data_folder_in_use"
