"""A client that can also misbehave: what it sends is bytes, what it gets is decoded messages in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import msgspec

from gameserver.access import Role, issue_token
from gameserver.app import Application
from gameserver.config import DEVELOPMENT_SECRET
from gameserver.protocol import (
    SUBPROTOCOL,
    Ack,
    Action,
    Closed,
    ErrorMessage,
    Hello,
    Join,
    JoinDetails,
    Joined,
    Welcome,
    decode_server,
    encode_client,
)

M = TypeVar("M")
SECONDS = 5.0


def token(user: str = "alice", role: Role = Role.PLAYER, *, secret: str = DEVELOPMENT_SECRET, **options: Any) -> str:
    return issue_token(secret, user, role, now=time.time(), ttl_seconds=options.pop("ttl_seconds", 600), **options)


async def eventually(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait until the condition (plain or async) holds; its value."""
    async with asyncio.timeout(seconds):
        while True:  # what is waited for is in the server or in a store: there is no event to wait on
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)


class RawClient:
    """One WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, http: aiohttp.ClientSession) -> None:
        self.socket = socket
        self.http = http
        self.seen: list[Any] = []
        self.raw: list[bytes] = []
        self.seq = 0

    @classmethod
    async def open(cls, app: Application, user: str | None = "alice", *, name: str | None = None) -> RawClient:
        http = aiohttp.ClientSession()
        timeout = aiohttp.ClientWSTimeout(ws_close=0.2)  # some of these clients have stopped reading for good
        socket = await http.ws_connect(f"{app.url}/v1/ws", protocols=(SUBPROTOCOL,), max_msg_size=0, timeout=timeout)
        client = cls(socket, http)
        if user is not None:
            await client.send(Hello(token=token(user, name=name)))
            await client.expect(Welcome)
        return client

    async def send(self, message: Any) -> None:
        await self.socket.send_bytes(encode_client(message))

    async def send_raw(self, value: Any) -> None:
        await self.socket.send_bytes(value if isinstance(value, bytes) else msgspec.msgpack.encode(value))

    async def next(self, seconds: float = SECONDS) -> Any:
        async with asyncio.timeout(seconds):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionError(f"closed with {self.socket.close_code}")
        self.raw.append(message.data)
        decoded = decode_server(message.data)
        self.seen.append(decoded)
        return decoded

    async def expect(self, kind: type[M], seconds: float = SECONDS) -> M:
        """The next message of this kind; others before it are kept in `seen`."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.next(seconds)
                if isinstance(message, kind):
                    return message
                if isinstance(message, ErrorMessage | Closed) and kind is not ErrorMessage:
                    raise AssertionError(f"got {message} while waiting for {kind.__name__}")

    async def join(self, name: str, kind: Any = "game", **details: Any) -> Joined:
        await self.send(Join(1, kind, name, JoinDetails(**details)))
        return await self.expect(Joined)

    async def act(self, channel: int, name: str | int, *args: Any) -> Ack:
        self.seq += 1
        await self.send(Action(channel, self.seq, name, list(args)))
        while True:
            ack = await self.expect(Ack)
            if ack.seq == self.seq:
                return ack

    async def closed(self, seconds: float = SECONDS) -> int | None:
        """Read on until the server closes; the close code."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.raw.append(message.data)
                    self.seen.append(decode_server(message.data))
                else:
                    return self.socket.close_code

    async def close(self) -> None:
        await self.socket.close()
        await self.http.close()
