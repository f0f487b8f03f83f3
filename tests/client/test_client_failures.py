"""Servers that are not there, not ours, silent or suddenly gone: a clear exception in time, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest
from aiohttp import web
from aiohttp.connector import Connection

from gameserver.app import Application
from gameserver.client import AnswerTimeout, Client, ConnectionLost, ReconnectPolicy, ServerUnreachable, error_from
from gameserver.client.address import Address
from gameserver.client.errors import ServerError, error_from_close
from gameserver.config import Settings
from gameserver.errors import (
    AuthenticationRequired,
    GameServerError,
    MatchFull,
    ProtocolError,
    SlowConsumer,
    TokenExpired,
    TokenInvalid,
)
from gameserver.protocol import Hello, Join, Leave, decode_client, encode_joined, encode_welcome, pack
from tests.client.conftest import token
from tests.client.games import Counter

Serve = Callable[[Callable[[web.WebSocketResponse], Awaitable[None]]], Awaitable[str]]
WELCOME = {"connection": "c", "user": "u", "role": "player", "name": "U", "server_time_ms": 1, "protocol": 1}


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server whose WebSocket is handled by the test."""
    runners: list[web.AppRunner] = []

    async def start(handler: Callable[[web.WebSocketResponse], Awaitable[None]]) -> str:
        async def upgrade(request: web.Request) -> web.WebSocketResponse:
            websocket = web.WebSocketResponse(protocols=("gameserver.v1",))
            await websocket.prepare(request)
            await handler(websocket)
            return websocket

        app = web.Application()
        app.router.add_get("/v1/ws", upgrade)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestNobodyThere:
    @pytest.mark.parametrize("known", [None, "token"])
    async def test_no_server(self, known: str | None) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(ServerUnreachable, match="is the server running there") as raised:
            async with Client(url, token=known):
                pass
        assert url.removeprefix("http") in raised.value.message

    async def test_no_such_host(self) -> None:
        with pytest.raises(ServerUnreachable):
            await Client("http://no-such-host.invalid", token="x").connect()

    async def test_something_else_is_there(self, app: Application) -> None:
        with pytest.raises(ServerUnreachable, match="404"):
            await Client(f"{app.url}/elsewhere", token="x").connect()

    async def test_a_port_that_accepts_and_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            for known in (None, "token"):
                with pytest.raises(ServerUnreachable):
                    await Client(url, token=known, timeout_seconds=0.2).connect()

    async def test_a_server_that_does_not_welcome(self, serve: Serve) -> None:
        async def silent(websocket: web.WebSocketResponse) -> None:
            await websocket.receive()
            await websocket.receive()

        with pytest.raises(AnswerTimeout, match="hello"):
            await Client(await serve(silent), token="x", timeout_seconds=0.2).connect()


class TestAccess:
    async def test_bad_and_expired_tokens(self, app: Application) -> None:
        for bad in ("nonsense", token("alice")[:-4] + "AAAA"):
            with pytest.raises(TokenInvalid):
                await Client(app.url, token=bad).connect()
        with pytest.raises(TokenExpired):
            await Client(app.url, token=token("alice", ttl_seconds=-60)).connect()

    async def test_no_token_where_no_guests_are_let_in(self, settings: Settings) -> None:
        server = settings.server.model_copy(update={"mode": "production"})
        app = Application(settings.model_copy(update={"server": server}), [Counter])
        await app.start()
        try:
            with pytest.raises(AuthenticationRequired):
                await Client(app.url).connect()
        finally:
            await app.stop()


class TestSuddenEnds:
    async def test_a_cut_connection(self, serve: Serve) -> None:
        async def cut(websocket: web.WebSocketResponse) -> None:
            await websocket.receive()
            await websocket.send_bytes(encode_welcome(WELCOME))
            await websocket.receive()
            transport_of(websocket).abort()

        async with Client(await serve(cut), token="x") as client:
            with pytest.raises(ConnectionLost):
                await client.ping()
            assert not client.connected

    @pytest.mark.parametrize("code", [1000, 1001, 1011, 4508, 4999])
    async def test_close_codes_are_told_apart(self, serve: Serve, code: int) -> None:
        async def close(websocket: web.WebSocketResponse) -> None:
            await websocket.receive()
            await websocket.send_bytes(encode_welcome(WELCOME))
            await websocket.receive()
            await websocket.close(code=code, message=b"why")

        async with Client(await serve(close), token="x") as client:
            with pytest.raises(GameServerError, match="why") as raised:
                await client.ping()
        assert isinstance(raised.value, SlowConsumer) == (code == 4508)
        assert raised.value.retryable == (code != 1000)

    async def test_a_server_that_talks_nonsense(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        async def babble(websocket: web.WebSocketResponse) -> None:
            await websocket.receive()
            await websocket.send_bytes(encode_welcome(WELCOME))
            await websocket.send_str("text frames mean nothing")
            await websocket.receive()
            await websocket.send_bytes(b"\xc1\xc1")
            await websocket.receive()

        async with Client(await serve(babble), token="x") as client:
            with pytest.raises(ProtocolError):
                await client.ping()
        assert "does not understand" in caplog.text

    async def test_a_join_that_takes_too_long_gives_its_seat_back(self, serve: Serve) -> None:
        seen: list[object] = []

        async def slow(websocket: web.WebSocketResponse) -> None:
            assert isinstance(decode_client(await websocket.receive_bytes()), Hello)
            await websocket.send_bytes(encode_welcome(WELCOME))
            join = decode_client(await websocket.receive_bytes())
            assert isinstance(join, Join)
            await asyncio.sleep(0.3)
            await websocket.send_bytes(joined(join.request))
            seen.append(decode_client(await websocket.receive_bytes()))

        async with Client(await serve(slow), token="x", timeout_seconds=0.1) as client:
            with pytest.raises(AnswerTimeout, match="joining"):
                await client.join_or_create("g")
            async with asyncio.timeout(5):
                while not seen:
                    await asyncio.sleep(0.01)
        assert isinstance(seen[0], Leave)


class TestSockets:
    """Whatever cuts a client off, its sockets are closed by it and not by the collector."""

    @pytest.fixture(autouse=True)
    async def forgotten(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
        """What aiohttp said about sockets that nobody closed: in debug mode it never keeps quiet."""
        gc.collect()
        gc.disable()
        said: list[str] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(str(unraisable.exc_value)))
        asyncio.get_running_loop().set_debug(True)
        yield said
        gc.collect()
        gc.enable()
        assert not said

    @pytest.fixture
    def peers(self) -> list[web.WebSocketResponse]:
        """The server's ends of the connections that were opened."""
        return []

    @pytest.fixture
    async def url(self, serve: Serve, peers: list[web.WebSocketResponse]) -> str:
        async def welcome(websocket: web.WebSocketResponse) -> None:
            peers.append(websocket)
            async for _ in websocket:
                await websocket.send_bytes(encode_welcome(WELCOME))

        return await serve(welcome)

    async def test_connecting(self, url: str) -> None:
        for turns in count():
            client = Client(url, token="x")
            connecting = asyncio.create_task(client.connect())
            await loop_turns(turns)
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            connected = client.connected
            await client.close()
            assert not sockets_held(), f"cut off after {turns} turns of the loop"
            if connected:
                break

    async def test_coming_back(self, url: str, peers: list[web.WebSocketResponse]) -> None:
        for turns in count():
            client = Client(url, token="x", reconnect=ReconnectPolicy(1e-6, 1e-6))
            await client.connect()
            transport_of(peers[-1]).abort()
            while client.connected:
                await asyncio.sleep(0)
            await loop_turns(turns)
            connected = client.connected
            await client.close()
            assert not sockets_held(), f"cut off after {turns} turns of the loop"
            if connected:
                break

    async def test_going_to_another_server(self, url: str, peers: list[web.WebSocketResponse]) -> None:
        for turns in count():
            client = Client(url, token="x", reconnect=ReconnectPolicy(1e-6, 1e-6), direct=True)
            await client.connect()
            joining = asyncio.create_task(client.join("m"))
            await peers[-1].send_bytes(joined(1, address=url))
            await joining
            first = client._link
            await loop_turns(turns)
            went = client._link is not first and client.connected
            await client.close()
            assert not sockets_held(), f"cut off after {turns} turns of the loop"
            if went:
                break

    @pytest.mark.parametrize("end", ["aborted by the client", "aborted by the peer", "ended without a goodbye"])
    async def test_a_connection_that_ends(self, url: str, peers: list[web.WebSocketResponse], end: str) -> None:
        async with Client(url, token="x", reconnect=False) as client:
            match end:
                case "aborted by the client":
                    assert client._link is not None
                    client._link.abort(ConnectionLost("the test says so"))
                case "aborted by the peer":
                    transport_of(peers[-1]).abort()
                case _:
                    transport_of(peers[-1]).close()
            async with asyncio.timeout(5):
                while client.connected:
                    await asyncio.sleep(0.01)
            assert not sockets_held(), "long before the client is closed"


def sockets_held() -> list[Connection]:
    """What aiohttp's clients have not closed."""
    return [found for found in gc.get_objects() if type(found) is Connection and found.protocol is not None]


def transport_of(websocket: web.WebSocketResponse) -> asyncio.Transport:
    transport = websocket._req.transport  # type: ignore[union-attr]
    assert transport is not None
    return transport


async def loop_turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def joined(request: int, **more: str) -> bytes:
    info = {
        "match": "m", "game": "g", "session": "s", "slot": 0, "epoch": 1, "version": 1, "time_ms": 0,
        "actions": [],
    }  # fmt: skip
    return encode_joined(request, 5, info | more, schema=pack([["G", 0, []]]), state=pack([1, 2]))


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "http", "websocket"),
        [
            ("http://a:1", "http://a:1", "ws://a:1/v1/ws"),
            ("a:1", "http://a:1", "ws://a:1/v1/ws"),
            ("https://a/", "https://a", "wss://a/v1/ws"),
            ("ws://a:1/v1/ws", "http://a:1", "ws://a:1/v1/ws"),
            ("wss://a/games/v1/ws", "https://a/games", "wss://a/games/v1/ws"),
            ("http://[::1]:1", "http://[::1]:1", "ws://[::1]:1/v1/ws"),
        ],
    )
    def test_addresses_in_every_spelling(self, url: str, http: str, websocket: str) -> None:
        assert Address.parse(url) == (http, websocket)

    @pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://a/?token=x", "http://a/#x"])
    def test_what_is_no_address(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"address|query"):
            Client(url)


class TestErrors:
    def test_codes_become_classes(self) -> None:
        assert type(error_from("match_full", "no")) is MatchFull
        unknown = error_from("my_own_code", "mine", retryable=True)
        assert isinstance(unknown, ServerError)
        assert (unknown.code, unknown.message, unknown.retryable) == ("my_own_code", "mine", True)
        assert error_from("internal").code == "internal"

    def test_close_codes_become_classes(self) -> None:
        assert type(error_from_close(4003, "bad")) is TokenInvalid
        assert error_from_close(1001, "").message == "the server closed the connection (1001)"
