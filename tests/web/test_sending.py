"""Around the transport or through it: every byte once and in order, and none to anybody else."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

import pytest
import uvloop

from gameserver.web import sending
from gameserver.web.link import DirectLink, Listener

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [uvloop.new_event_loop, asyncio.new_event_loop]
SECONDS = 20.0


class Silent(Listener):
    """It only waits for the end."""

    def __init__(self) -> None:
        super().__init__(heard_at=0.0)
        self.ended = False

    def gone(self) -> None:
        self.ended = True


class Pair:
    """A link, its transport, and the socket of the peer. Their buffers are small."""

    opened: ClassVar[list[Pair]] = []

    def __init__(self, link: DirectLink, transport: asyncio.Transport, peer: socket.socket) -> None:
        self.link = link
        self.transport = transport
        self.peer = peer
        self.listener = Silent()
        link.listen(self.listener)
        self.opened.append(self)

    @classmethod
    async def open(cls) -> Pair:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.socket()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peer.connect(server.getsockname())
            ours, _ = server.accept()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        peer.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        link = DirectLink(transport, 1_000, loop.time)
        transport.set_protocol(link)  # type: ignore[arg-type]
        link.independent = True
        link.send_directly()
        return cls(link, transport, peer)

    async def read(self, size: int) -> bytes:
        got = await asyncio.get_running_loop().sock_recv(self.peer, size)
        assert got, "it has not ended"
        return got

    async def read_all(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            got += await self.read(size - len(got))
        return bytes(got)


@pytest.fixture(params=LOOPS, ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    with asyncio.Runner(loop_factory=request.param) as runner:

        async def timed(test: Coroutine[Any, Any, None]) -> None:
            try:
                async with asyncio.timeout(SECONDS):
                    await test
            finally:
                for pair in Pair.opened:
                    pair.transport.abort()
                    pair.peer.close()
                Pair.opened.clear()
                await asyncio.sleep(0.01)

        yield lambda test: runner.run(timed(test))


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.mark.parametrize("seed", range(5))
def test_all_bytes_arrive_in_order_whatever_the_peer_does(run: Run, seed: int) -> None:
    """Frames of all sizes, alone and together, to a peer that reads now and then: sent at once, in part, later."""

    async def play() -> None:
        chance, pair = random.Random(seed), await Pair.open()
        sent, got, waited, went = bytearray(), bytearray(), 0, 0
        for _ in range(1_500):
            frames = [chance.randbytes(chance.choice((2, 90, 700, 9_000))) for _ in range(chance.choice((1, 1, 1, 3)))]
            pair.link.write_all(frames)
            sent += b"".join(frames)
            if chance.random() < 0.3:
                await asyncio.sleep(0)
                waiting = pair.transport.get_write_buffer_size()
                waited, went = waited + (waiting > 0), went + (waiting == 0)
            if chance.random() < 0.1:
                got += await pair.read_all(len(sent) - len(got))
            elif chance.random() < 0.3 and len(got) < len(sent):
                got += await pair.read(chance.choice((10, 5_000, 200_000)))
        got += await pair.read_all(len(sent) - len(got))
        assert got == sent
        assert waited > 10
        assert went > 10

    run(play())


def test_what_a_peer_does_not_read_is_counted(run: Run) -> None:
    """Past the high-water mark; and not any more once it has read."""

    async def play() -> None:
        pair = await Pair.open()
        size, frame = 0, bytes(1_000)
        while not pair.link.buffered_bytes():
            pair.link.write(frame)
            size += len(frame)
            await asyncio.sleep(0)
            assert size < 10_000_000
        assert pair.link.buffered_bytes() == pair.transport.get_write_buffer_size()
        await pair.read_all(size)
        await asyncio.sleep(0.01)
        assert pair.link.buffered_bytes() == 0
        pair.link.write(b"more")
        assert await pair.read_all(4) == b"more"

    run(play())


def test_nothing_is_written_to_who_has_the_number_of_a_closed_socket(run: Run) -> None:
    async def play() -> None:
        pair = await Pair.open()
        number = pair.transport.get_extra_info("socket").fileno()
        other, end = socket.socketpair()
        pair.link.write(b"before")
        assert await pair.read_all(6) == b"before"
        pair.transport.abort()
        pair.link.write(b"between")
        while not pair.listener.ended:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        os.dup2(other.fileno(), number)
        pair.link.write(b"after")
        pair.link.write_all((b"and", b"after"))
        os.close(number)
        with other, end:
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(10)

    run(play())


@pytest.mark.parametrize("reset", [False, True])
def test_a_peer_that_is_gone_is_noticed(run: Run, *, reset: bool) -> None:
    """By the transport, as ever; nothing is raised but what it raises itself."""

    async def play() -> None:
        pair = await Pair.open()
        if reset:
            pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.peer.close()
        while not pair.listener.ended:
            try:
                pair.link.write(bytes(100))
            except (RuntimeError, OSError):
                assert pair.transport.is_closing()
            await asyncio.sleep(0)

    run(play())


def test_only_plain_sockets_are_written_to_directly() -> None:
    """What encrypts, or is of another loop, gets all of it."""
    written: list[bytes] = []

    class Encrypting(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

        def write(self, data: Any) -> None:
            written.append(data)

    sender = sending.Sender(Encrypting())
    sender.send_directly()
    sender.write(b"one")
    sender.write_all((b"two",))
    assert written == [b"one", b"two"]
