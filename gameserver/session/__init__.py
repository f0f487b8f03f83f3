"""One connection's rules, without the socket: message order, budgets, requests, channels."""

from gameserver.session.connection import (
    DEFAULT_POLICY,
    TRANSITIONS,
    ConnectionPolicy,
    ConnectionState,
    SessionMachine,
    Verdict,
)

__all__ = [
    "DEFAULT_POLICY",
    "TRANSITIONS",
    "ConnectionPolicy",
    "ConnectionState",
    "SessionMachine",
    "Verdict",
]
