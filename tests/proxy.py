"""A small TCP proxy that stands between a client and a store and misbehaves on demand.

    async with Proxy(redis_url, seed=1) as proxy:
        client = make_redis(proxy.url("redis"), …)
        proxy.drop_replies = 0.05        # the store did it, the client never hears of it
        proxy.stall(); proxy.resume()    # the line is open and silent
        proxy.reset()                    # RST on all connections

Probabilities are per chunk that is read, which for request and answer is one message as long as both are small.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 262_144
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds


class Proxy:
    """Listens on a loopback port and forwards to the store at `upstream` (`unix://…` or any `scheme://host:port`)."""

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self._upstream = urlsplit(upstream)
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lines: set[_Line] = set()
        self.delay_seconds = 0.0
        """Held back for so long, in each direction."""
        self.drop_replies = 0.0
        """The store's answer is swallowed, then the connection is reset."""
        self.drop_requests = 0.0
        """The request never reaches the store, then the connection is reset."""
        self.cut_replies = 0.0
        """The first half of the answer arrives, then the connection is reset."""
        self.refuse = False
        """New connections are closed at once."""
        self.dropped = 0
        self.accepted = 0
        self.chunks = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        self.resume()
        while self._lines:
            await asyncio.sleep(0.001)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def url(self, scheme: str) -> str:
        """The address for clients."""
        return f"{scheme}://127.0.0.1:{self.port}"

    def stall(self) -> None:
        """Nothing goes through any more, in either direction, and nobody is told."""
        self._flowing.clear()

    def resume(self) -> None:
        """What was held back goes on."""
        self._flowing.set()

    def reset(self) -> int:
        """Reset all connections; how many there were."""
        for line in list(self._lines):
            line.reset()
        return len(self._lines)

    # --- one connection -----------------------------------------------------------------------------------------------
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refuse:
            writer.close()
            return
        line = _Line(writer)
        self._lines.add(line)
        try:
            store_reader, line.store = await self._connect()
            up = asyncio.create_task(self._pump(reader, line.store, line, request=True))
            down = asyncio.create_task(self._pump(store_reader, writer, line, request=False))
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        except OSError:
            pass  # the store is away: so is this connection
        finally:
            line.close()
            self._lines.discard(line)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._upstream.scheme == "unix":
            return await asyncio.open_unix_connection(self._upstream.path, limit=CHUNK_BYTES)
        return await asyncio.open_connection(self._upstream.hostname, self._upstream.port, limit=CHUNK_BYTES)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line, *, request: bool
    ) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                self.chunks += 1
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._flowing.wait()
                drop = self.drop_requests if request else self.drop_replies
                if drop and self._random.random() < drop:
                    self.dropped += 1
                    line.reset()
                    return
                if not request and self.cut_replies and self._random.random() < self.cut_replies:
                    self.dropped += 1
                    writer.write(chunk[: len(chunk) // 2])
                    await writer.drain()
                    await asyncio.sleep(0.001)  # a reset overtakes what is still in the buffer
                    line.reset()
                    return
                writer.write(chunk)
                await writer.drain()
        except OSError:
            return  # reset by either side: the other one is closed with it


class _Line:
    """The two connections that belong together."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.store: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        """The client sees a reset; the store sees the connection go."""
        sock = self.client.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        self.client.transport.abort()
        if self.store is not None:
            self.store.transport.abort()

    def close(self) -> None:
        """Both ends go."""
        self.client.close()
        if self.store is not None:
            self.store.close()
