"""Many cheap clients in one process: they count frames by their first bytes, never decode them, and send on a timer.

Run by `benchmarks.server` as a process of its own, on another core than the server. For each rate of inputs that it is
given it prints a JSON line at the start of a window of time and one at its end; the difference is what was delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import struct
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import msgpack
import uvloop

from gameserver.access import Role, issue_token
from gameserver.protocol import QUIET, Action, Hello, Join, decode_server, encode_client

CONNECTING_AT_ONCE = 32
BINARY, CLOSE, PING, PONG = 0x82, 0x88, 0x89, 0x8A  # first bytes of whole WebSocket frames
FRAME_BYTES = b"\x98\x03"  # a msgpack array of eight that starts with 3: FRAME
JOIN_SECONDS = 60


def masked(payload: bytes, first: int = BINARY) -> bytes:
    """A client's frame; the mask is zeros, which is allowed and free."""
    size = len(payload)
    if size < 126:
        return bytes((first, 0x80 | size)) + b"\0\0\0\0" + payload
    return struct.pack("!BBH", first, 0xFE, size) + b"\0\0\0\0" + payload


class Totals:
    """Counted over all clients."""

    def __init__(self) -> None:
        self.frames = self.messages = self.bytes = self.actions = self.errors = 0

    def line(self, what: str) -> str:
        """One JSON line for the process that started us."""
        used = time.process_time()
        return json.dumps({"what": what, "at": time.perf_counter(), "cpu_seconds": used, **vars(self)})


class Client(asyncio.Protocol):
    """One connection: handshake, hello, join, then counting."""

    def __init__(self, totals: Totals, token: str, game: str, path: str, host: str) -> None:
        self.totals, self.token, self.game, self.path, self.host = totals, token, game, path, host
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.upgraded = False
        self.channel = self.seq = 0
        self.counting = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: gameserver.v1\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        at, end = 0, len(data)
        if not self.upgraded:
            head = data.find(b"\r\n\r\n")
            if head < 0:
                self.buffer = data
                return
            if b" 101 " not in data[:16]:
                self.fail(f"upgrade refused: {data[:80]!r}")
                return
            self.upgraded, at = True, head + 4
            self.transport.write(masked(encode_client(Hello(token=self.token))))
        totals = self.totals
        while end - at >= 2:
            size, start = data[at + 1] & 0x7F, at + 2
            if size >= 126:
                start += 2 if size == 126 else 8
                if end < start:
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
            if end - start < size:
                break
            if self.counting:
                totals.messages += 1
                totals.bytes += size
                if data[start : start + 2] == FRAME_BYTES:
                    totals.frames += 1
            if not self.counting or data[at] != BINARY:
                self.handle(data[at], data[start : start + size])
            at = start + size
        self.buffer = data[at:]

    def handle(self, first: int, payload: bytes) -> None:
        """Everything that is not the steady state."""
        if first == PING:
            self.transport.write(masked(payload, PONG))
        elif first == CLOSE:
            self.fail(f"closed by the server: {payload!r}")
        elif payload[1] == 1:
            self.transport.write(masked(encode_client(Join(1, "game", self.game))))
        elif payload[1] == 2:
            message: Any = decode_server(payload)
            self.channel, self.seq = message.channel, message.info.seq
            self.steer = message.info.actions.index("steer") if "steer" in message.info.actions else 0
            self.counting = True
            self.joined.set_result(None)
        elif payload[1] == 7:
            self.fail(f"error from the server: {msgpack.unpackb(payload)}")

    def fail(self, why: str) -> None:
        """Count it, and tell who waits for the join."""
        self.totals.errors += 1
        print(why, file=sys.stderr)
        if not self.joined.done():
            self.joined.set_exception(RuntimeError(why))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.joined.done():
            self.fail(f"connection lost: {exc}")

    def act(self) -> None:
        """Send one input."""
        self.seq += 1
        self.totals.actions += 1
        turn = (self.seq % 20) / 10 - 1
        args = [turn, 1 - abs(turn), self.seq]
        self.transport.write(masked(encode_client(Action(self.channel, self.seq, self.steer, args, QUIET))))


async def act_all(clients: list[Client], rate: float) -> None:
    """Each client `rate` times a second, spread evenly over time."""
    steps = max(1, min(len(clients), 100))
    while True:
        started = time.perf_counter()
        for step in range(steps):
            for client in clients[step::steps]:
                client.act()
            due = started + (step + 1) / steps / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def play(options: argparse.Namespace) -> int:
    """Connect, join, count."""
    address = urlsplit(options.url)
    loop, totals = asyncio.get_running_loop(), Totals()
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    now = time.time()

    async def enter(number: int) -> Client:
        async with gate:
            token = issue_token(options.secret, f"bench-{number}", Role.PLAYER, now=now, ttl_seconds=3600)
            _, client = await loop.create_connection(
                lambda: Client(totals, token, options.game, "/v1/ws", address.netloc), address.hostname, address.port
            )
            await asyncio.wait_for(client.joined, JOIN_SECONDS)
            return client

    clients = await asyncio.gather(*(enter(number) for number in range(options.clients)))
    for rate in options.rates:
        acting = asyncio.create_task(act_all(clients, rate)) if rate else None
        await asyncio.sleep(options.warm_up)
        print(totals.line("start"), flush=True)
        await asyncio.sleep(options.seconds)
        print(totals.line("end"), flush=True)
        if acting is not None:
            acting.cancel()
    for client in clients:
        client.transport.abort()
    return 1 if totals.errors else 0


def main() -> int:
    """The command line, used by `benchmarks.server` only."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--game", default="swarm")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0], help="inputs per second and client, in turn")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    return uvloop.run(play(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
