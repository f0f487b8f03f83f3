"""One player as a load generator needs it: connects, joins, acts, and times everything on the way.

Nothing here knows locust: what was measured goes to a `Report`, so the class can be tried without it.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from typing import Any, Protocol
from urllib.parse import urlsplit

from gameserver.protocol import (
    Ack,
    Action,
    Closed,
    ErrorMessage,
    Events,
    Frame,
    Hello,
    Join,
    JoinDetails,
    Joined,
    Leave,
    Part,
    StateMessage,
    Welcome,
    decode_server,
    encode_client,
)
from gameserver.state import Mirror
from loadtests.websocket import WebSocket


class Report(Protocol):
    """Where measurements go."""

    def __call__(self, kind: str, name: str, milliseconds: float, *, size: int = 0, error: str | None = None) -> None:
        """One thing was done in this time; `error` says that and why it failed."""


class ServerError(Exception):
    """The server answered with an error."""


class Player:
    """A ship in the arena. `run_receiver` reads until the connection ends; `steer` and `fire` only write."""

    def __init__(self, base_url: str, token: str, report: Report, *, mirrored: bool) -> None:
        self.base_url = base_url
        self.token = token
        self.report = report
        self.mirrored = mirrored
        self.user_id = ""
        self.closing = False
        self.ended: Exception | None = None
        self.pending: OrderedDict[int, tuple[str, float]] = OrderedDict()
        self.unseen: OrderedDict[int, float] = OrderedDict()
        self.held: list[list[Any]] = []
        self.seq = 0
        self.last_patch_at = 0.0
        self.random = random.Random()

    # --- getting in ---------------------------------------------------------------------------------------------------
    def connect(self) -> None:
        """Open the WebSocket and say hello."""
        address = urlsplit(self.base_url)
        started = time.perf_counter()
        self.websocket = WebSocket(address.hostname or "127.0.0.1", address.port or 80, "/v1/ws")
        self.websocket.send(encode_client(Hello(token=self.token, info={"client": "loadtest"})))
        welcome = self._expect(Welcome)
        self.user_id = welcome.info.user
        self.report("WS", "connect", (time.perf_counter() - started) * 1000)

    def join(self, game: str, options: dict[str, Any]) -> None:
        """Join a match of this game that has room, or a new one."""
        started = time.perf_counter()
        self.websocket.send(encode_client(Join(1, "game", game, JoinDetails(options=options))))
        joined = self._expect(Joined)
        self.channel, info = joined.channel, joined.info
        self.slot, self.window, self.seq = info.slot, info.window, info.seq
        self.steer_number, self.fire_number = info.actions.index("steer"), info.actions.index("fire")
        self.mirror = Mirror(info.schema)
        self.mirror.load_full(info.state)
        self.report("WS", "join", (time.perf_counter() - started) * 1000)

    def _expect(self, kind: type[Any]) -> Any:
        while True:
            message = decode_server(self.websocket.receive())
            if isinstance(message, kind):
                return message
            if isinstance(message, ErrorMessage):
                raise ServerError(f"{message.code}: {message.message}")

    # --- acting -------------------------------------------------------------------------------------------------------
    def steer(self) -> None:
        """A NORMAL action: a new direction."""
        angle = self.random.random() * 6.283
        self._act("NORMAL", self.steer_number, [round(1 - angle / 3.1416, 3), round(angle / 3.1416 - 1, 3)])

    def fire(self) -> None:
        """A HIGH action: at anyone else, when our own ship can."""
        ships = self.mirror.root.ships
        ship = ships.get(self.user_id)
        if self.mirrored and (ship is None or not ship.alive or not ship.ammo):
            return
        targets = [name for name in ships if name != self.user_id]
        self._act("HIGH", self.fire_number, [self.random.choice(targets) if targets else self.user_id])

    def _act(self, priority: str, number: int, args: list[Any]) -> None:
        if len(self.pending) >= self.window:
            self.report("ACT", f"{priority} held back by the window", 0.0)
            return
        self.seq += 1
        now = time.perf_counter()
        self.pending[self.seq] = (priority, now)
        if priority == "NORMAL":
            self.unseen[self.seq] = now
        self.websocket.send(encode_client(Action(self.channel, self.seq, number, args)))

    # --- receiving ----------------------------------------------------------------------------------------------------
    def run_receiver(self) -> None:
        """Read until the connection ends; why it ended is in `ended`."""
        try:
            while True:
                data = self.websocket.receive()
                self._handle(decode_server(data), len(data))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the report
            self.ended = error
            if not self.closing:
                self.report("WS", "connection", 0.0, error=f"{type(error).__name__}: {error}")

    def _handle(self, message: Any, size: int) -> None:
        now = time.perf_counter()
        if isinstance(message, Frame):
            interval = now - self.last_patch_at if self.last_patch_at else 0.0
            self.last_patch_at = now
            if self.mirrored:
                self.mirror.apply(message.ops, self.held)
            self.held.clear()
            self._see(message.applied, time.perf_counter())
            self.report("RECV", "patch (interval)", interval * 1000, size=size)
        elif isinstance(message, Ack):
            self._acknowledge(message, now)
        elif isinstance(message, Part):
            if self.mirrored:
                self.held.append(message.ops)
            self.report("RECV", "part", 0.0, size=size)
        elif isinstance(message, Events):
            self.report("RECV", "HIGH events", 0.0, size=size)
        elif isinstance(message, StateMessage):
            if message.schema is not None:
                self.mirror = Mirror(message.schema)
            self.mirror.load_full(message.state)
            self.held.clear()
            self.report("RECV", "full state", 0.0, size=size)
        elif isinstance(message, ErrorMessage):
            self.report("WS", "error message", 0.0, error=f"{message.code}: {message.message}")
        elif isinstance(message, Closed) and not self.closing:
            self.report("WS", "channel closed", 0.0, error=f"{message.code}: {message.message}")

    def _acknowledge(self, ack: Ack, now: float) -> None:
        # Cumulative: what is older and still waiting for an answer is done too.
        while self.pending and next(iter(self.pending)) <= ack.seq:
            seq, (priority, sent) = self.pending.popitem(last=False)
            latency = (now - sent) * 1000
            if seq == ack.seq and not ack.ok:
                code, text = ack.result[0], ack.result[1]
                self.unseen.pop(seq, None)
                # The rules said no (out of ammunition, ship destroyed): a correct answer, counted under its own name.
                refused = code == "action_refused"
                name = f"{priority} refused by the rules" if refused else f"{priority} action → ack"
                self.report("ACT", name, latency, error=None if refused else f"{code}: {text}")
            else:
                self.report("ACT", f"{priority} action → ack", latency)

    def _see(self, applied: list[int], now: float) -> None:
        for at in range(0, len(applied), 2):
            if applied[at] == self.slot:
                while self.unseen and next(iter(self.unseen)) <= applied[at + 1]:
                    sent = self.unseen.popitem(last=False)[1]
                    self.report("ACT", "NORMAL action → visible in state", (now - sent) * 1000)
                return

    # --- getting out --------------------------------------------------------------------------------------------------
    def drained(self) -> bool:
        """Is every action answered?"""
        return not self.pending

    def leave(self) -> None:
        """Give the seat back and hang up; an action that has no answer by now never got one."""
        self.closing = True
        for priority, sent in self.pending.values():
            waited = (time.perf_counter() - sent) * 1000
            self.report("ACT", f"{priority} action → ack", waited, error="no answer before the end of the test")
        if self.ended is None:
            try:
                self.websocket.send(encode_client(Leave(2, self.channel)))
            except OSError as error:
                self.report("WS", "connection", 0.0, error=f"{type(error).__name__}: {error}")
        self.websocket.close()
