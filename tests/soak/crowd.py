"""Many players who come, act, and go, each a WebSocket that only notes when it heard what."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from random import Random
from typing import Any

import aiohttp

from gameserver.access import Role, issue_token
from gameserver.protocol import (
    SUBPROTOCOL,
    Ack,
    Action,
    Closed,
    ErrorMessage,
    Frame,
    Hello,
    Join,
    JoinDetails,
    Joined,
    Leave,
    Reply,
    Welcome,
    decode_server,
    encode_client,
)

ANSWER_SECONDS = 10.0
AWAY_SECONDS = (0.1, 2.0)


class Guest:
    """One of the crowd: in a room, or between two rooms."""

    def __init__(self, name: str, url: str, secret: str, random: Random) -> None:
        self.name = name
        self.heard_at: float | None = None
        """When the last frame came, or its join was answered; None while it is in no match."""
        self.silence_seconds = 0.0
        """The longest time without a frame of a match that ticks."""
        self.frames = 0
        self.visits = 0
        self.unanswered: set[int] = set()
        self.troubles: list[str] = []
        self._url, self._secret, self._random = url, secret, random
        self._socket: aiohttp.ClientWebSocketResponse
        self._channel = 0
        self._seq = 0

    async def stay(self, room: int, seconds: float, acts_per_second: float) -> None:
        """Join this room, act for so long, and go: by leaving, or by being gone."""
        token = issue_token(self._secret, self.name, Role.PLAYER, now=time.time(), ttl_seconds=3600)
        async with aiohttp.ClientSession() as http, http.ws_connect(self._url, protocols=(SUBPROTOCOL,)) as socket:
            self._socket = socket
            await self._send(Hello(token=token))
            await self._expect(Welcome)
            await self._send(Join(1, "game", "arena", JoinDetails(options={"size": 100 + room})))
            joined = await self._expect(Joined)
            self._channel, self._seq = joined.channel, joined.info.seq
            self.visits += 1
            self.heard_at = time.monotonic()
            reading = asyncio.create_task(self._read())
            try:
                await self._act(seconds, acts_per_second)
                await self._wait_for_answers()
                if self._random.random() < 0.7:
                    await self._send(Leave(2, self._channel))
                    await asyncio.wait_for(asyncio.shield(reading), ANSWER_SECONDS)
            except (TimeoutError, ConnectionError) as error:
                self.troubles.append(f"{type(error).__name__}: {error or 'no answer to leave'}")
            finally:
                self.heard_at = None
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading

    async def _act(self, seconds: float, acts_per_second: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._random.expovariate(acts_per_second))
            self._seq += 1
            self.unanswered.add(self._seq)
            fires = self._random.random() < 0.1
            args: list[Any] = [] if fires else [self._random.uniform(-1, 1), self._random.uniform(-1, 1)]
            await self._send(Action(self._channel, self._seq, "fire" if fires else "steer", args))

    async def _wait_for_answers(self) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.unanswered and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if self.unanswered:
            self.troubles.append(f"{len(self.unanswered)} actions were not answered")
            self.unanswered.clear()

    async def _read(self) -> None:
        """Until the leave is answered, or the connection is over."""
        while True:
            message = await self._receive()
            now = time.monotonic()
            if isinstance(message, Frame):
                if self.heard_at is not None:
                    self.silence_seconds = max(self.silence_seconds, now - self.heard_at)
                self.heard_at = now
                self.frames += 1
            elif isinstance(message, Ack) and message.refused:
                self.troubles.append(f"action {message.seq} was refused: {message.result}")
            elif isinstance(message, Ack):
                self.unanswered = {seq for seq in self.unanswered if seq > message.seq}
            elif isinstance(message, Reply):
                return
            elif isinstance(message, ErrorMessage | Closed):
                self.troubles.append(f"{message.code}: {message.message}")

    async def _send(self, message: Any) -> None:
        await self._socket.send_bytes(encode_client(message))

    async def _receive(self) -> Any:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionError(f"the connection ended: {message.type.name} {message.data} {message.extra or ''}")
        return decode_server(message.data)

    async def _expect(self, wanted: Any) -> Any:
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                message = await self._receive()
                if isinstance(message, wanted):
                    return message
                if isinstance(message, ErrorMessage):
                    raise ConnectionError(f"{message.code}: {message.message}")


class Crowd:
    """Guests in rooms of a few, for as long as it is wanted."""

    def __init__(self, url: str, secret: str, seed: int, *, rooms: int, guests: int, acts_per_second: float) -> None:
        self._rooms, self._acts_per_second = rooms, acts_per_second
        self._random = Random(seed)
        address = f"{url.replace('http', 'ws', 1)}/v1/ws"
        self.guests = [Guest(f"guest-{i}", address, secret, Random(f"{seed} {i}")) for i in range(guests)]
        self._until = 0.0

    async def play(self, seconds: float, *, stay_seconds: float) -> None:
        """All of them come within a second, stay some time in one room and go to another; at the end all have left."""
        self._until = time.monotonic() + seconds
        await asyncio.gather(*(self._wander(guest, stay_seconds) for guest in self.guests))

    async def _wander(self, guest: Guest, stay_seconds: float) -> None:
        await asyncio.sleep(self._random.random())
        while (left := self._until - time.monotonic()) > 0:
            stay = min(left, self._random.expovariate(1 / stay_seconds))
            try:
                await guest.stay(self._random.randrange(self._rooms), stay, self._acts_per_second)
            except (ConnectionError, TimeoutError, aiohttp.ClientError) as error:
                guest.troubles.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._random.uniform(*AWAY_SECONDS))

    def waiting_seconds(self) -> dict[str, float]:
        """For how long each guest who is in a match has not heard of it."""
        now = time.monotonic()
        return {guest.name: now - guest.heard_at for guest in self.guests if guest.heard_at is not None}
