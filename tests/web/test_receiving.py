"""The way in below aiohttp's public API, and aiohttp's own where that is not to be had: clients cannot tell them apart.

The clients here write frames by hand. What aiohttp may change under us makes these fail, and the server fall back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from aiohttp import web

from gameserver.app import Application
from gameserver.config import Settings
from gameserver.protocol import (
    Action,
    ErrorMessage,
    Frame,
    Hello,
    Join,
    Joined,
    Ping,
    Pong,
    Welcome,
    decode_server,
    encode_client,
)
from gameserver.web import frames, receiving
from gameserver.web.link import DirectLink, Listener
from gameserver.web.receiving import DirectSocket, find_problem
from tests.web.conftest import changed
from tests.web.games import GAMES
from tests.web.kit import eventually, token

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
HEARTBEAT_SECONDS = 0.4  # where it is about heartbeats
SECONDS = 5.0


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame, with a mask of zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((opcode | 0x80 * fin,)) + length + b"\0\0\0\0" + payload


def message(value: Any) -> bytes:
    return frame(BINARY, encode_client(value))


class Wire:
    """A client that writes what it likes."""

    opened: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.opened.append(self)

    @classmethod
    async def open(cls, app: Application, first: bytes = b"") -> Wire:
        """Shake hands; `first` goes out together with the request."""
        host, port = app.url.removeprefix("http://").split(":")
        wire = cls(*await asyncio.open_connection(host, int(port)))
        wire.writer.write(receiving.HANDSHAKE.replace(b"GET /", b"GET /v1/ws") + first)
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        return wire

    @classmethod
    async def greeted(cls, app: Application, user: str = "alice") -> Wire:
        wire = await cls.open(app, message(Hello(token=token(user))))
        assert isinstance(await wire.next(), Welcome)
        return wire

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        async with asyncio.timeout(SECONDS):
            first, size = await self.reader.readexactly(2)
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0xF, await self.reader.readexactly(size)

    async def next(self) -> Any:
        """The next message."""
        opcode, payload = await self.frame()
        assert opcode == BINARY, (opcode, payload)
        return decode_server(payload)

    async def closed(self, code: str | None) -> int:
        """An error of this code (or none), then a close and the end: the close code."""
        if code is not None:
            error = await self.next()
            assert isinstance(error, ErrorMessage)
            assert error.code == code
        opcode, payload = await self.frame()
        assert opcode == CLOSE
        with contextlib.suppress(OSError):  # what it had not read yet was for nobody
            self.writer.write(frame(CLOSE, payload))
            self.writer.write_eof()
            async with asyncio.timeout(SECONDS):
                assert await self.reader.read() == b""
        return int.from_bytes(payload[:2], "big")

    async def pong(self, nonce: Any) -> None:
        self.writer.write(message(Ping(nonce)))
        answer = await self.next()
        assert isinstance(answer, Pong)
        assert answer.nonce == nonce


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Application]:
    application = Application(settings, GAMES)
    await application.start()
    try:
        yield application
    finally:
        for wire in Wire.opened:
            wire.writer.transport.abort()
        Wire.opened.clear()
        await application.stop()


async def find_one() -> str | None:
    return "a test says so"


@pytest.fixture
def heartbeat_seconds() -> float:
    """So long that none comes in between."""
    return 60.0


@pytest.fixture(params=["direct", "awaited"])
async def app(
    settings: Settings, heartbeat_seconds: float, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Application]:
    if request.param == "awaited":
        monkeypatch.setattr("gameserver.web.connections.find_problem", find_one)
    async with running(changed(settings, limits={"heartbeat_seconds": heartbeat_seconds})) as application:
        assert is_direct(application) == (request.param == "direct")
        yield application


def is_direct(app: Application) -> bool:
    assert app.web is not None
    assert app.metrics.value("direct_receive") == app.web.connections.direct
    return app.web.connections.direct


async def test_what_comes_with_the_handshake_is_not_lost(app: Application) -> None:
    """Hello, join and more in one packet with the HTTP request: in order, nothing before the welcome."""
    hello, join = message(Hello(token=token())), message(Join(1, "game", "board"))
    wire = await Wire.open(app, hello + join + message(Ping(1)))
    kinds = [type(await wire.next()) for _ in range(3)]
    assert kinds[0] is Welcome
    assert set(kinds[1:]) == {Joined, Pong}
    await wire.pong(2)


async def test_fragments_with_pings_between(app: Application) -> None:
    """A message in parts, byte by byte, and control frames where they may stand."""
    wire = await Wire.greeted(app)
    whole = encode_client(Ping("fragmented"))
    sent = frame(BINARY, whole[:3], fin=False) + frame(PING, b"one") + frame(CONTINUATION, whole[3:5], fin=False)
    sent += frame(PONG) + frame(CONTINUATION, whole[5:])
    for byte in sent:
        wire.writer.write(bytes((byte,)))
        await wire.writer.drain()
        await asyncio.sleep(0)
    answers = [await wire.frame(), await wire.frame()]
    assert (PONG, b"one") in answers
    assert decode_server(next(payload for opcode, payload in answers if opcode == BINARY)).nonce == "fragmented"
    await wire.pong(2)


async def test_text(app: Application) -> None:
    wire = await Wire.greeted(app)
    wire.writer.write(frame(TEXT, b"hello?"))
    assert await wire.closed("text_frame") == 4402


@pytest.mark.parametrize("in_parts", [False, True])
async def test_too_large(app: Application, *, in_parts: bool) -> None:
    """Refused by what its header says, before it is here; parts count together."""
    wire = await Wire.greeted(app)
    if in_parts:
        wire.writer.write(frame(BINARY, bytes(40_000), fin=False) + frame(CONTINUATION, bytes(40_000)))
    else:
        wire.writer.write(b"\x82\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0")
    assert await wire.closed("message_too_large") == 4413


BROKEN = [
    pytest.param(frame(CONTINUATION, b"x"), 1002, id="continues nothing"),
    pytest.param(frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), 1002, id="begins again"),
    pytest.param(frame(PING, b"x", fin=False), 1002, id="a ping in parts"),
    pytest.param(frame(0x3, b"x"), 1002, id="unknown opcode"),
    pytest.param(b"\xc2\x81\0\0\0\0x", 1002, id="compressed"),
    pytest.param(frame(TEXT, b"\xff\xff"), 1007, id="text that is none"),
]


@pytest.mark.parametrize(("sent", "close_code"), BROKEN)
async def test_broken_frames(app: Application, sent: bytes, close_code: int) -> None:
    """What came before them counts; the connection ends; nobody else notices."""
    bystander = await Wire.greeted(app, "bob")
    wire = await Wire.greeted(app)
    wire.writer.write(message(Ping("before")) + sent)
    assert (await wire.next()).nonce == "before"
    assert await wire.closed(None) == close_code
    await bystander.pong(1)


async def test_the_close_of_a_client_is_answered(app: Application) -> None:
    """And nothing after it counts, even in the same packet."""
    wire = await Wire.greeted(app)
    wire.writer.write(message(Ping(1)) + frame(CLOSE, b"\x03\xe8") + message(Ping(2)))
    assert (await wire.next()).nonce == 1
    assert (await wire.frame())[0] == CLOSE
    assert await wire.reader.read() == b""
    assert app.web is not None
    await eventually(lambda: len(app.web.connections) == 0)
    assert app.metrics.value("connections_closed_total", code="1000") == 1


async def test_messages_after_the_servers_close_are_not_looked_at(app: Application) -> None:
    wire = await Wire.greeted(app)
    wire.writer.write(b"".join((message(Hello(token=token())), message(Join(1, "game", "board")), message(Ping(1)))))
    assert await wire.closed("hello_repeated") == 4400
    assert len(app.host) == 0


@pytest.mark.parametrize("heartbeat_seconds", [HEARTBEAT_SECONDS])
async def test_who_does_not_answer_pings_is_dropped(app: Application) -> None:
    """Whatever arrives counts as an answer, also part of a message; silence does not."""
    silent, busy, slow = await Wire.greeted(app), await Wire.greeted(app, "bob"), await Wire.greeted(app, "eve")
    sent = frame(BINARY, encode_client(Ping("x" * 60)))
    loop, at = asyncio.get_running_loop(), 0
    until = loop.time() + 3 * HEARTBEAT_SECONDS
    while loop.time() < until:
        busy.writer.write(frame(PONG))
        slow.writer.write(sent[at : at + 1])
        at += 1
        await asyncio.sleep(HEARTBEAT_SECONDS / 8)
    assert (await silent.frame()) == (PING, b"")
    if is_direct(app):
        assert await silent.closed("heartbeat_lost") == 4504
    else:
        assert await silent.reader.read() == b""
    await busy.pong(1)
    slow.writer.write(sent[at:])
    assert (await slow.next()).nonce == "x" * 60


async def test_a_flood_ends_with_the_budget(app: Application) -> None:
    """A hundred thousand messages: a burst of them is handled, nothing is kept of the others."""
    assert app.web is not None
    connections = app.web.connections
    wire = await Wire.greeted(app)
    wire.writer.write(message(Ping(None)) * 100_000)
    received = 0
    while isinstance(answer := await wire.next(), Pong):
        received += 1
    assert answer.code == "budget_exceeded"
    assert (await wire.frame())[0] == CLOSE
    policy = connections.limits.policy
    assert received <= policy.messages_burst + SECONDS * policy.messages_per_second
    await eventually(lambda: len(connections) == 0)
    assert app.metrics.value("errors_sent_total", code="budget_exceeded") == 1


async def test_a_flood_of_pings_is_bounded(app: Application) -> None:
    """They are answered, so they count as messages; aiohttp by itself stops reading until it has answered them."""
    assert app.web is not None
    wire = await Wire.greeted(app)
    connection = next(iter(app.web.connections._open))
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined] # it asks, and does not read what it gets
    pings = frame(PING, bytes(100)) * 10_000
    async with asyncio.timeout(4 * SECONDS):
        while connection.ending is None and not (not is_direct(app) and connection._link._protocol._reading_paused):
            wire.writer.write(pings)
            await asyncio.sleep(0.01)
    assert connection._transport.get_write_buffer_size() < 1_000_000
    wire.writer.transport.abort()
    await eventually(lambda: len(app.web.connections) == 0)


# --- the pieces ---------------------------------------------------------------------------------------------------
class Clumsy(Listener):
    """It fails each time."""

    def __init__(self) -> None:
        super().__init__(heard_at=0.0)
        self.told: list[Any] = []

    def feed(self, data: bytes) -> None:
        self._fail("feed", data)

    def feed_text(self) -> None:
        self._fail("feed_text")

    def feed_ping(self, payload: bytes) -> None:
        self._fail("feed_ping", payload)

    def gone(self) -> None:
        self.told.append(("gone",))

    def _fail(self, *told: Any) -> None:
        self.told.append(told)
        raise ValueError("no good")


async def test_a_listener_that_fails_does_not_stop_the_parser() -> None:
    """And the end is told once, whoever brings it."""
    listener, link = Clumsy(), DirectLink(asyncio.Transport(), 1_000, time.monotonic)
    link.listen(listener)
    link.data_received(frame(BINARY, b"one") + frame(BINARY, b"two") + frame(PING, b"three") + frame(BINARY, b"f"))
    link.data_received(frame(TEXT, b"text"))
    for exc in (None, OSError()):
        link.connection_lost(exc)
    link.data_received(frame(BINARY, b"late"))
    await link.close(1000, b"")
    fed = [("feed", b"one"), ("feed", b"two"), ("feed_ping", b"three"), ("feed", b"f"), ("feed_text",)]
    assert listener.told == [*fed, ("gone",)]


async def test_nothing_of_the_handshake_stays(app: Application) -> None:
    """aiohttp has forgotten a connection that is served directly; its end frees all of it."""
    assert app.web is not None
    wire = await Wire.greeted(app)
    server = app.web._runner.server if app.web._runner else None
    assert server is not None
    await eventually(lambda: len(server.connections) == (0 if is_direct(app) else 1))
    gc.collect()
    gc.disable()  # no cycles that wait for the collector
    try:
        wire.writer.write(frame(CLOSE, b"\x03\xe8"))
        assert (await wire.frame())[0] == CLOSE
        await eventually(lambda: len(app.web.connections) == 0)
        await eventually(lambda: not any(type(one) is DirectLink for one in gc.get_objects()))
    finally:
        gc.enable()


def renamed(*_arguments: Any, **_options: Any) -> Any:
    raise TypeError("it takes other arguments now")


def ignored(*_arguments: Any, **_options: Any) -> None:
    pass


class Deaf(DirectLink):
    """Has not the name that aiohttp calls."""

    def __getattribute__(self, name: str) -> Any:
        if name == "feed_data":
            raise AttributeError(f"no attribute {name}")
        return super().__getattribute__(name)


BREAKAGES = [
    pytest.param(frames, "websocket_mask", renamed, "", id="another mask"),
    pytest.param(receiving, "DirectLink", Deaf, "no attribute", id="what came with the request goes elsewhere"),
    pytest.param(DirectSocket, "_post_start", None, "", id="put together elsewhere"),
    pytest.param(DirectSocket, "write_eof", None, "", id="the response ends otherwise"),
    pytest.param(web.RequestHandler, "set_parser", renamed, "other arguments", id="another handler"),
    pytest.param(web.RequestHandler, "connection_lost", ignored, "not forgotten", id="it does not tidy up"),
]


@pytest.mark.parametrize(("holder", "name", "instead", "said"), BREAKAGES)
async def test_the_self_test_sees_what_may_change(
    monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, instead: Any, said: str
) -> None:
    """None of what the module leans on can change unseen."""
    assert await find_problem() is None
    if instead is None:
        monkeypatch.delattr(holder, name)  # the base class's own takes its place
    else:
        monkeypatch.setattr(holder, name, instead)
    monkeypatch.setattr(receiving, "PROBE_SECONDS", 0.5)
    problem = await find_problem()
    assert problem is not None
    assert said in problem


async def test_a_server_falls_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and serves."""
    monkeypatch.delattr(DirectSocket, "_post_start")
    async with running(settings) as app:
        assert not is_direct(app)
        wire = await Wire.greeted(app)
        wire.writer.write(message(Join(1, "game", "board")))
        joined = await wire.next()
        wire.writer.write(message(Action(joined.channel, 1, "ring", [])))
        assert isinstance(await wire.next(), Frame)
