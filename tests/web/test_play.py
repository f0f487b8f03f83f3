"""Play over real sockets: who is put together, what arrives when, and in which order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from gameserver.app import Application
from gameserver.protocol import (
    Ack,
    Action,
    Closed,
    Events,
    Frame,
    Join,
    Joined,
    Leave,
    Part,
    Reply,
    encode_client,
)
from tests.web.conftest import Opener
from tests.web.kit import eventually, token


async def test_concurrent_joiners_land_in_the_same_match(connect: Opener) -> None:
    """Six at once into a game of three seats: two matches, both full."""
    clients = [await connect(f"p{number}") for number in range(6)]
    joined = await asyncio.gather(*(client.join("board") for client in clients))
    counts: dict[str, int] = {}
    for one in joined:
        counts[one.info.match] = counts.get(one.info.match, 0) + 1
    assert sorted(counts.values()) == [3, 3]


async def test_options_keep_joiners_apart(connect: Opener) -> None:
    plain = await (await connect("a")).join("board")
    other = await (await connect("b")).join("board", options={"map": "moon"})
    same = await (await connect("c")).join("board", options={"map": "moon"})
    assert plain.info.match != other.info.match == same.info.match


async def test_a_seat_promised_over_http_is_kept(app: Application, connect: Opener) -> None:
    """POST /v1/join promises a seat: three others cannot take the last one meanwhile."""
    async with aiohttp.ClientSession() as http:

        async def promised(user: str) -> str:
            headers = {"Authorization": f"Bearer {token(user)}"}
            async with http.post(f"{app.url}/v1/join", json={"game": "board"}, headers=headers) as response:
                assert response.status == 200
                ticket = await response.json()
                assert ticket["ws"] == app.url.replace("http", "ws") + "/v1/ws"
                return str(ticket["match"])

        matches = await asyncio.gather(*(promised(f"p{number}") for number in range(4)))
    assert len(set(matches[:3])) == 1
    assert matches[3] != matches[0]
    client = await connect("p2")
    assert (await client.join(matches[2], "match")).info.match == matches[2]


async def test_high_is_answered_at_once_and_after_its_patch(connect: Opener) -> None:
    """A HIGH action's frame, its event and its acknowledgement come in this order, long before any batch is due."""
    alice, bob = await connect("alice"), await connect("bob")
    channel = (await alice.join("board")).channel
    await bob.join("board")
    await alice.expect(Frame)  # Bob came in
    for client in (alice, bob):
        client.seen.clear()
    await alice.send(Action(channel, 1, "ring", []))
    ack = await alice.expect(Ack)
    frame, events = alice.seen[0], alice.seen[1]
    assert isinstance(frame, Frame)
    assert isinstance(events, Events)
    assert frame.version == events.version == ack.version
    assert events.events == [["ring", {"by": "alice", "n": 1}]]
    assert (await bob.expect(Events)).events == events.events
    assert isinstance(bob.seen[0], Frame)


async def test_high_flushes_of_one_turn_are_one_frame(connect: Opener) -> None:
    """Ten HIGH actions that arrive together are ten acknowledgements and one patch."""
    alice = await connect("alice")
    channel = (await alice.join("board")).channel
    transport = alice.socket._response.connection.transport
    payloads = [encode_client(Action(channel, seq, "ring", [])) for seq in range(1, 11)]
    # Masked with zeros, which leaves the payload as it is; all in one segment.
    transport.write(b"".join(bytes((0x82, 0x80 | len(payload), 0, 0, 0, 0)) + payload for payload in payloads))
    acks = [await alice.expect(Ack) for _ in range(10)]
    assert [ack.result for ack in acks] == list(range(1, 11))
    assert len({ack.version for ack in acks}) == 1
    assert sum(isinstance(message, Frame) for message in alice.seen) == 1


async def test_normal_actions_wait_for_the_batch(connect: Opener) -> None:
    alice = await connect("alice")
    channel = (await alice.join("board")).channel
    for seq in range(1, 6):
        await alice.send(Action(channel, seq, "move", [1], 1))
    await alice.send(Action(channel, 6, "move", [1]))
    ack = await alice.expect(Ack)
    assert (ack.seq, ack.result) == (6, 6)
    frames = [message for message in alice.seen if isinstance(message, Frame)]
    assert len(frames) == 1
    assert dict(zip(frames[0].applied[::2], frames[0].applied[1::2], strict=True)) == {0: 6}


async def test_whispers_reach_one(connect: Opener) -> None:
    alice, bob, carol = await connect("alice"), await connect("bob"), await connect("carol")
    channel = (await alice.join("board")).channel
    await bob.join("board")
    await carol.join("board")
    await alice.act(channel, "whisper", "bob", "PSST-ONLY-BOB")
    await bob.expect(Events)
    await alice.act(channel, "ring")
    await carol.expect(Events)
    assert b"PSST-ONLY-BOB" in b"".join(bob.raw)
    assert b"PSST-ONLY-BOB" not in b"".join(carol.raw + alice.raw)


async def test_private_parts_come_before_the_shared_frame(connect: Opener) -> None:
    """What only its owner sees is a part of its own; where nothing else changed, the others get nothing at all."""
    alice, bob = await connect("alice"), await connect("bob")
    channel = (await alice.join("board")).channel
    await bob.join("board")
    await alice.expect(Frame)
    alice.seen.clear()
    ack = await alice.act(channel, "hide", "HIDDEN-BY-ALICE")
    assert [type(message) for message in alice.seen] == [Part, Frame, Ack]
    assert {message.version for message in alice.seen} == {ack.version}
    await alice.act(channel, "ring")
    frame = await bob.expect(Frame)
    assert frame.version == ack.version + 1
    assert b"HIDDEN-BY-ALICE" not in b"".join(bob.raw)


async def test_leave_frees_the_seat(connect: Opener) -> None:
    clients = [await connect(f"p{number}") for number in range(3)]
    joined = [await client.join("board") for client in clients]
    await clients[0].send(Leave(4, joined[0].channel))
    assert (await clients[0].expect(Reply)).request == 4
    late = await (await connect("late")).join("board")
    assert late.info.match == joined[0].info.match


async def test_the_seat_is_taken_over_by_the_same_user(connect: Opener) -> None:
    first, second = await connect("alice"), await connect("alice")
    before = await first.join("board")
    await first.act(before.channel, "move", 7)
    after = await second.join(before.info.match, "match")
    closed = await first.next()
    while not isinstance(closed, Closed):
        closed = await first.next()
    assert (closed.code, closed.reconnect) == ("session_replaced", False)
    assert after.info.slot == before.info.slot
    assert after.info.session != before.info.session
    assert (await second.act(after.channel, "move", 1)).result == 8
    await first.send(Action(before.channel, 2, "move", [1]))
    assert (await first.expect(Ack)).result[0] == "not_joined"


async def test_joining_again_on_the_same_connection(connect: Opener) -> None:
    alice = await connect("alice")
    before = await alice.join("board")
    await alice.send(Join(2, "match", before.info.match))
    messages = [await alice.next(), await alice.next()]
    assert isinstance(messages[0], Closed)
    assert isinstance(messages[1], Joined)
    assert (await alice.act(messages[1].channel, "move", 1)).ok


async def test_a_lost_connection_keeps_the_seat(app: Application, connect: Opener) -> None:
    alice = await connect("alice")
    joined = await alice.join("board")
    await alice.act(joined.channel, "move", 5)
    alice.socket._response.connection.transport.abort()
    hosted = app.host.get(joined.info.match)
    await eventually(lambda: not hosted.match.players["alice"].connected)
    again = await connect("alice")
    back = await again.join(joined.info.match, "match")
    assert hosted.match.players["alice"].connected
    assert (await again.act(back.channel, "move", 1)).result == 6


async def test_the_end_of_a_match(app: Application, connect: Opener) -> None:
    """Clients get the last state, their answer, then CLOSED; the document is final and the snapshot gone."""
    alice, bob = await connect("alice"), await connect("bob")
    joined = await alice.join("board")
    await bob.join("board")
    ack = await alice.act(joined.channel, "finish")
    assert ack.ok
    for client in (alice, bob):
        message = await client.next()
        while not isinstance(message, Closed):
            message = await client.next()
        assert (message.code, message.reconnect) == ("match_ended", False)
        assert "won" in message.message
    assert app.stores is not None
    stores = app.stores

    async def put_away() -> Any:
        document = await stores.documents.get_match(joined.info.match)
        ended = document is not None and document["status"] == "ended"
        return document if ended and not await stores.journal.owned() else None

    document = await eventually(put_away)
    assert document["end_reason"] == "won"
    assert document["summary"] == {"winner": "alice"}
    assert document["final_state"]["pieces"]["alice"]["x"] == 0
    assert "NEVER-ON-THE-WIRE" not in str(document["final_state"])


async def test_records_are_written(app: Application, connect: Opener) -> None:
    alice = await connect("alice")
    joined = await alice.join("board")
    await alice.act(joined.channel, "note", "remember this")
    assert app.stores is not None
    documents = app.stores.documents
    records = await eventually(lambda: documents.records(joined.info.match))
    assert [record["data"] for record in records] == [{"text": "remember this", "by": "alice"}]


async def test_ticks_are_on_time(connect: Opener) -> None:
    """Twenty ticks a second, not nineteen: each frame is one step later."""
    alice = await connect("alice")
    await alice.join("walk")
    for _ in range(5):  # a machine that is busy elsewhere skips some; not in each second
        first = await alice.expect(Frame)
        started = time.monotonic()
        for _ in range(20):
            last = await alice.expect(Frame)
        elapsed = time.monotonic() - started
        if last.time_ms - first.time_ms == 1000 and 0.85 < elapsed < 1.5:
            return
    raise AssertionError(f"{last.time_ms - first.time_ms} ms of ticks in {elapsed} s")


async def test_actions_may_come_before_the_join_has_returned(app: Application, connect: Opener) -> None:
    """Over the bus JOINED is out a moment before the join returns here: quick actions wait for that moment."""
    join = app.host.join
    returned = asyncio.Event()

    async def late(*args: Any, **options: Any) -> Any:
        member = await join(*args, **options)
        await returned.wait()
        return member

    app.host.join = late  # type: ignore[method-assign]
    client = await connect("alice")
    joined = await client.join("board")
    for seq in (1, 2):
        await client.send(Action(joined.channel, seq, "ring", []))
    await client.send(Action(joined.channel + 1, 1, "ring", []))
    await asyncio.sleep(0.05)
    returned.set()
    acks = [await client.expect(Ack) for _ in range(3)]
    by_channel = {(ack.channel, ack.seq): ack for ack in acks}
    assert [by_channel[joined.channel, seq].result for seq in (1, 2)] == [1, 2]
    stray = by_channel[joined.channel + 1, 1]
    assert stray.refused
    assert stray.result[0] == "not_joined"
