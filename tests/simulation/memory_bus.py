"""The bus in memory, for simulations: it keeps the same contract as the one on Redis.

`MemoryWire` is what lies between the nodes; each node has a `MemoryBus` of its own on it. What happens to a message on
its way is up to `fate`: it answers after how many seconds it arrives, or None for never.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from gameserver.storage import BusCounts
from gameserver.storage.bus import Handler

Fate = Callable[["MemoryBus", "MemoryBus", str], float | None]


class MemoryWire:
    """Carries messages between the buses that are connected to it."""

    def __init__(self, fate: Fate | None = None, *, reorder: bool = False) -> None:
        self.fate = fate
        self.reorder = reorder
        self.buses: list[MemoryBus] = []
        self.published: defaultdict[str, int] = defaultdict(int)
        self._latest: dict[tuple[int, int], float] = {}

    def carry(self, sender: MemoryBus, channel: str, payload: bytes) -> None:
        self.published[channel] += 1
        loop = asyncio.get_running_loop()
        for receiver in list(self.buses):
            delay = 0.0 if self.fate is None else self.fate(sender, receiver, channel)
            if delay is None or not receiver.connected or not receiver.listens(channel):
                continue
            due = loop.time() + delay
            if not self.reorder:
                # Later on the loop's clock than all that this receiver was sent before by this sender: in order.
                key = (id(sender), id(receiver))
                due = self._latest[key] = max(due, self._latest.get(key, 0.0) + 1e-9)
            loop.call_at(due, receiver.arrived, channel, payload, receiver.session)


class MemoryBus:
    """`Bus` of one node on a `MemoryWire`."""

    def __init__(self, wire: MemoryWire, name: str = "") -> None:
        self.wire = wire
        self.name = name
        self.counts = BusCounts()
        self.session = 0
        self._connected = True
        self._handlers: dict[str, list[_Subscription]] = {}
        self._gap_callbacks: list[Callable[[], None]] = []
        wire.buses.append(self)

    @property
    def connected(self) -> bool:
        return self._connected

    def listens(self, channel: str) -> bool:
        return channel in self._handlers

    def publish(self, channel: str, payload: bytes) -> bool:
        if not self._connected:
            self.counts.dropped += 1
            return False
        self.counts.published += 1
        self.counts.published_bytes += len(payload)
        self.wire.carry(self, channel, payload)
        return True

    def subscribe(self, channel: str, handler: Handler) -> _Subscription:
        subscription = _Subscription(self, channel, handler)
        self._handlers.setdefault(channel, []).append(subscription)
        return subscription

    def on_gap(self, callback: Callable[[], None]) -> None:
        self._gap_callbacks.append(callback)

    async def close(self) -> None:
        self._connected = False
        self._handlers.clear()
        if self in self.wire.buses:
            self.wire.buses.remove(self)

    def cut(self) -> None:
        """The connection is lost, with all that is on its way here."""
        self._connected = False
        self.session += 1

    def mend(self) -> None:
        """It is back."""
        self._connected = True
        self.counts.gaps += 1
        for callback in self._gap_callbacks:
            callback()

    def arrived(self, channel: str, payload: bytes, session: int) -> None:
        if session != self.session or not self._connected:
            return
        self.counts.received += 1
        for subscription in tuple(self._handlers.get(channel, ())):
            try:
                subscription.handler(payload)
            except Exception as failure:  # noqa: BLE001 - told to the loop
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"handler of {channel} failed", "exception": failure}
                )

    def unsubscribe(self, subscription: _Subscription) -> None:
        handlers = self._handlers.get(subscription.channel, [])
        if subscription in handlers:
            handlers.remove(subscription)
            if not handlers:
                del self._handlers[subscription.channel]


class _Subscription:
    def __init__(self, bus: MemoryBus, channel: str, handler: Handler) -> None:
        self._bus = bus
        self.channel = channel
        self.handler = handler

    async def ready(self) -> None:
        return

    def close(self) -> None:
        self._bus.unsubscribe(self)
