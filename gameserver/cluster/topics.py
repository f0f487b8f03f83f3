"""Messages between matches, over the bus: what one publishes under a topic comes to all that listen to it.

The matches of one node share one subscription per topic. The bus may lose messages; that none is heard twice (what a
match published since its last snapshot is published again after a takeover) is up to the matches that hear them: they
remember the position of the last one of each sender, as part of their state.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.cluster.hosted import HostedMatch
    from gameserver.storage import Bus, Subscription

log = structlog.get_logger("gameserver.cluster")

_encode = msgspec.msgpack.Encoder().encode


class _Message(msgspec.Struct, array_like=True):
    """On the bus."""

    sender: str
    version: int
    index: int
    data: Any


_decode = msgspec.msgpack.Decoder(_Message).decode


class Topics:
    """The topics that matches of this node listen to."""

    def __init__(self, bus: Bus, *, prefix: str) -> None:
        self._bus = bus
        self._prefix = prefix
        self._listeners: dict[str, dict[str, HostedMatch]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._topics_of: dict[str, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._listeners)

    def publish(self, match_id: str, position: tuple[int, int], topic: str, data: Any) -> None:
        """Send it to all that listen. Never raises; what the bus does not take is lost, and counted there."""
        self._bus.publish(self._channel(topic), _encode(_Message(match_id, *position, data)))

    def listen(self, hosted: HostedMatch, topics: Sequence[str]) -> None:
        """This match listens to these topics from now on, and to no others."""
        match_id = hosted.match_id
        before, wanted = self._topics_of.pop(match_id, frozenset()), frozenset(topics)
        if wanted:
            self._topics_of[match_id] = wanted
        for topic in before - wanted:
            listeners = self._listeners[topic]
            listeners.pop(match_id, None)
            if not listeners:
                del self._listeners[topic]
                self._subscriptions.pop(topic).close()
        for topic in wanted:
            listeners = self._listeners.setdefault(topic, {})
            listeners[match_id] = hosted
            if topic not in self._subscriptions:
                self._subscriptions[topic] = self._bus.subscribe(self._channel(topic), partial(self._received, topic))

    def _received(self, topic: str, payload: bytes) -> None:
        try:
            message = _decode(payload)
        except msgspec.MsgspecError as error:
            log.error("message_unreadable", topic=topic, error=str(error))
            return
        position = (message.version, message.index)
        for hosted in list(self._listeners.get(topic, {}).values()):
            hosted.hear(topic, message.data, message.sender, position)

    def _channel(self, topic: str) -> str:
        return f"{self._prefix}:topic:{topic}"
