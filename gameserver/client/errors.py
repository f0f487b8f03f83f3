"""What can go wrong between a client and its server, and how a code on the wire becomes an exception again."""

from __future__ import annotations

from gameserver.errors import GameServerError, close_code_table, should_reconnect


class ServerUnreachable(GameServerError):
    """The server cannot be reached."""

    code = "server_unreachable"
    retryable = True


class ConnectionLost(GameServerError):
    """The connection to the server was lost."""

    code = "connection_lost"
    retryable = True


class ConnectionClosed(GameServerError):
    """The connection was closed by this client."""

    code = "connection_closed"


class AnswerTimeout(GameServerError):
    """The server did not answer in time."""

    code = "answer_timeout"
    retryable = True


class RoomLeft(GameServerError):
    """You left this match."""

    code = "left"


class ServerError(GameServerError):
    """An error whose code this version of the client does not know."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message or code)
        self.code = code  # type: ignore[misc]  # here, and only here, the code is the server's
        self.retryable = retryable  # type: ignore[misc]


def error_from(code: str, message: str = "", *, retryable: bool = False) -> GameServerError:
    """The exception of the error tree that a code stands for: `except MatchFull` works on both sides of the wire."""
    found = _classes().get(code)
    return ServerError(code, message, retryable=retryable) if found is None else found(message)


def error_from_close(close_code: int, reason: str) -> GameServerError:
    """The exception for a WebSocket that the server closed."""
    for entry in close_code_table():
        if entry.close_code == close_code:
            return error_from(entry.code, reason)
    message = f"the server closed the connection ({close_code}{': ' + reason if reason else ''})"
    return ServerError("connection_lost", message, retryable=should_reconnect(close_code))


def _classes() -> dict[str, type[GameServerError]]:
    """Every class of the tree whose code is its own; walked at each use, because an author may have added some."""
    found: dict[str, type[GameServerError]] = {}
    pending: list[type[GameServerError]] = [GameServerError]
    while pending:
        error = pending.pop(0)
        pending.extend(error.__subclasses__())
        if error is not ServerError and error is not GameServerError:
            found.setdefault(error.code, error)
    return found
