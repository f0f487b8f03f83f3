"""What goes into a match and what comes out of it: plain values, no behaviour.

What is made for every action or flush is a msgspec struct, which is made several times faster than a dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec


class Priority(IntEnum):
    """How urgent an action, an event or a record is."""

    LOW = 0
    """With the tick; the first to be dropped, and counted, for a slow consumer."""
    NORMAL = 1
    """With the tick."""
    HIGH = 2
    """At once; gated: it leaves when the journal has it."""


PUBLISH = "*publish"
"""The kind of an effect that is a message to other matches; the game's own kinds do not begin with a star."""


@dataclass(frozen=True, slots=True)
class User:
    """Who asks to join: what their token says."""

    id: str
    name: str = ""
    role: str = "player"


@dataclass(frozen=True, slots=True)
class MatchLimits:
    """What a match accepts before it says no. Each limit has a named consequence."""

    results_kept: int = 64
    """Results per session that a resent action can still get (older: `seq_too_old`); the client's window too."""
    queued_actions_max: int = 64
    """Actions of one session that wait for the tick (more: `limit_reached`, the seq is not consumed)."""
    events_max: int = 10_000
    """Events of one flush (more: the emitting call fails and is rolled back)."""
    effects_max: int = 1_000
    """Effects of one flush (more: the recording call fails and is rolled back)."""
    topics_max: int = 64
    """Topics that a match listens to (more: `subscribe` fails)."""
    senders_kept: int = 64
    """Matches of which the last message is remembered, so that none is heard twice (older: it might be)."""
    timers_max: int = 10_000
    """Timers pending at once (more: `after` fails)."""
    timers_per_wake_max: int = 1_000
    """Timers fired in one wake (the rest in the next: timers that arm timers do not hold up other matches)."""
    high_events_kept: int = 256
    """Batches of HIGH events that a client who comes back can still get (older: lost to it, as it is told)."""
    quiet_ack_every: int = 16
    """Of a session's quiet actions, every so many are acknowledged all the same."""


class Ack(msgspec.Struct):
    """The outcome of one consumed `seq`. Cumulative: all lower ones of the session have one too.

    `result` is the action's return value or, with `error`, `[code, message, retryable]`.
    """

    session_id: str
    seq: int
    version: int
    error: bool
    result: Any


class EventBatch(msgspec.Struct):
    """Events for one audience, in the order they were emitted. `receivers`: viewer ids, or None for everyone."""

    receivers: frozenset[str] | None
    events: list[list[Any]]
    priority: Priority


class Effect(msgspec.Struct):
    """What the match asks of the world. Match, version, index and what it is make its idempotency key."""

    kind: str
    payload: dict[str, Any]
    priority: Priority
    index: int
