"""Servers that are not there, not ours, silent or suddenly gone: a clear exception in time, nothing left behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from gameserver.app import Application
from gameserver.client import AnswerTimeout, Client, ConnectionLost, ServerUnreachable, error_from
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
            transport = websocket._req.transport  # type: ignore[union-attr]
            assert transport is not None
            transport.abort()

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
            info = {
                "match": "m", "game": "g", "session": "s", "slot": 0, "epoch": 1, "version": 1, "time_ms": 0,
                "actions": [],
            }  # fmt: skip
            state = pack([1, 2])
            await websocket.send_bytes(encode_joined(join.request, 5, info, schema=pack([["G", 0, []]]), state=state))
            seen.append(decode_client(await websocket.receive_bytes()))

        async with Client(await serve(slow), token="x", timeout_seconds=0.1) as client:
            with pytest.raises(AnswerTimeout, match="joining"):
                await client.join_or_create("g")
            async with asyncio.timeout(5):
                while not seen:
                    await asyncio.sleep(0.01)
        assert isinstance(seen[0], Leave)


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
