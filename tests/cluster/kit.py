"""A host without sockets and stores: receivers that keep what they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gameserver.cluster import (
    Fanout,
    FanoutLimits,
    GameRegistry,
    Gate,
    Host,
    HostLimits,
    LoopClock,
    Meters,
    NoEffects,
    OpenGate,
    Receiver,
    Services,
    User,
)
from gameserver.match import Game, MatchOutput
from gameserver.metrics import Metrics
from gameserver.protocol import decode_server


class FakeReceiver(Receiver):
    """One connection: its writes in order, each a list of decoded messages."""

    def __init__(self) -> None:
        self.writes: list[list[Any]] = []
        self.raw: list[bytes] = []
        self.buffered = 0
        self.gone: list[int] = []
        self.aborted: int | None = None

    def write(self, frames: Sequence[bytes]) -> None:
        self.writes.append([message for frame in frames for message in unframed(frame)])
        self.raw.extend(frames)

    def buffered_bytes(self) -> int:
        return self.buffered

    def detached(self, channel: int) -> None:
        self.gone.append(channel)

    def abort(self, close_code: int, reason: str) -> None:
        self.aborted = close_code

    @property
    def messages(self) -> list[Any]:
        return [message for write in self.writes for message in write]

    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.messages]

    def clear(self) -> None:
        self.writes.clear()
        self.raw.clear()


def unframed(data: bytes) -> list[Any]:
    """The messages in a run of WebSocket frames, as a client's reader would find them."""
    found = []
    while data:
        assert data[0] == 0x82
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        found.append(decode_server(data[start : start + length]))
        data = data[start + length :]
    return found


class HeldGate(Gate):
    """Holds everything back until the test lets it go."""

    def __init__(self) -> None:
        self.held: list[tuple[MatchOutput, Callable[[MatchOutput], None]]] = []

    def commit(self, match_id: str, output: MatchOutput) -> bool:
        return False

    def hold(self, match_id: str, output: MatchOutput, release: Callable[[MatchOutput], None]) -> None:
        self.held.append((output, release))

    def release_all(self) -> None:
        held, self.held = self.held, []
        for output, release in held:
            release(output)


def make_host(games: list[type[Game]], *, gate: Gate | None = None, limits: FanoutLimits | None = None) -> Host:
    host = Host(GameRegistry(games), HostLimits(matches_max=100))
    services = Services(
        clock=LoopClock(),
        fanout=Fanout(limits or FanoutLimits()),
        gate=gate or OpenGate(),
        effects=NoEffects(),
        meters=Meters(Metrics()),
        keeper=host,
        perf=lambda: 0.0,  # nothing takes long here: what is due rings in one turn of the loop, on any machine
    )
    host.attach(services, None, None)
    return host


async def enter(host: Host, game: str, user: str, **options: Any) -> tuple[Any, FakeReceiver]:
    receiver = FakeReceiver()
    member = await host.join("game", game, User(user, user.title()), receiver, 1, **options)
    return member, receiver
