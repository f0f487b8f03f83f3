"""One connection's rules, without the socket: message order, budgets, requests, channels, coming back."""

from gameserver.session.connection import (
    DEFAULT_POLICY,
    TRANSITIONS,
    ConnectionPolicy,
    ConnectionState,
    SessionMachine,
    Verdict,
)
from gameserver.session.resume import (
    RESUME_TABLE,
    Answer,
    Reason,
    Returning,
    decide_resume,
    events_position,
)

__all__ = [
    "DEFAULT_POLICY",
    "RESUME_TABLE",
    "TRANSITIONS",
    "Answer",
    "ConnectionPolicy",
    "ConnectionState",
    "Reason",
    "Returning",
    "SessionMachine",
    "Verdict",
    "decide_resume",
    "events_position",
]
