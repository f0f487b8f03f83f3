"""Coming back, as it is on the wire: what the join with a resume is answered with, and who may have it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from gameserver.app import Application
from gameserver.config import Settings
from gameserver.protocol import (
    Ack,
    Action,
    Closed,
    ErrorMessage,
    Events,
    Frame,
    Join,
    JoinDetails,
    Joined,
    Part,
    Resume,
)
from tests.web.conftest import Opener, changed
from tests.web.games import GAMES
from tests.web.kit import RawClient, eventually


def resume_of(client: RawClient, joined: Joined, *, events_version: int | None = None) -> Resume:
    """Where this client is."""
    versions = [message.version for message in client.seen if isinstance(message, Frame)]
    return Resume(joined.info.session, joined.info.epoch, max([joined.info.version, *versions]), events_version)


async def back(client: RawClient, joined: Joined, resume: Resume) -> Joined:
    return await client.join(joined.info.match, "match", resume=resume)


async def until_events(client: RawClient, count: int) -> list[Any]:
    while len(events_of(client)) < count:
        await client.next()
    return events_of(client)


def events_of(client: RawClient) -> list[Any]:
    return [event for message in client.seen if isinstance(message, Events) for event in message.events]


async def test_a_tail_continues_the_session(app: Application, connect: Opener) -> None:
    """No state, the missed versions in order with one's own parts, then the missed urgent events."""
    bob, alice = await connect("bob"), await connect("alice")
    joined = await alice.join("board")
    other = await bob.join("board")
    assert (await alice.act(joined.channel, "move", 1)).result == 1
    resume = resume_of(alice, joined, events_version=joined.info.events_version)
    await alice.close()
    match = app.host.get(joined.info.match).match
    await eventually(lambda: not match.players["alice"].connected)
    await bob.act(other.channel, "move", 5)
    await bob.act(other.channel, "ring")
    await bob.act(other.channel, "whisper", "alice", "psst")
    again = await connect("alice")
    answer = await back(again, joined, resume)
    info = answer.info
    assert (info.recovered, info.state, info.session, info.slot) == (True, None, joined.info.session, joined.info.slot)
    assert (info.seq, info.events_version) == (1, resume.events_version)
    assert await until_events(again, 2) == [["ring", {"by": "bob", "n": 1}], ["whisper", "psst"]]
    frames = [message.version for message in again.seen if isinstance(message, Frame)]
    assert frames == sorted(frames)
    assert frames[0] > resume.version
    kinds = [type(message) for message in again.seen]
    assert kinds.index(Joined) < kinds.index(Frame) < kinds.index(Events)
    again.seq = 1
    assert (await again.act(answer.channel, "move", 1)).result == 2


async def test_an_action_whose_answer_was_lost_is_answered_again(connect: Opener) -> None:
    alice = await connect("alice")
    joined = await alice.join("board")
    assert (await alice.act(joined.channel, "ring")).result == 1
    resume = resume_of(alice, joined)
    await alice.close()
    again = await connect("alice")
    answer = await back(again, joined, resume)
    assert (await again.act(answer.channel, "ring")).result == 1  # seq 1 again: the stored result
    assert (await again.act(answer.channel, "ring")).result == 2


async def test_a_full_state_when_too_much_has_happened(settings: Settings) -> None:
    app = Application(changed(settings, match={"resume_frames_max": 2}), GAMES)
    await app.start()
    try:
        alice, bob = await RawClient.open(app, "alice"), await RawClient.open(app, "bob")
        joined, other = await alice.join("board"), await bob.join("board")
        resume = resume_of(alice, joined, events_version=joined.info.events_version)
        await alice.close()
        for _ in range(4):
            await bob.act(other.channel, "ring")
        again = await RawClient.open(app, "alice")
        info = (await back(again, joined, resume)).info
        assert (info.recovered, info.session) == (False, joined.info.session)
        assert info.state is not None
        heard = await until_events(again, 4)  # kept longer than frames
        assert [data["n"] for _, data in heard] == [1, 2, 3, 4]
        for client in (again, bob):
            await client.close()
    finally:
        await app.stop()


async def test_an_attempt_that_was_overtaken_replaces_nobody(app: Application, connect: Opener) -> None:
    """It was on its way for longer than the next one: the client is where it came to last."""
    first = await connect("alice")
    joined = await first.join("board")
    resume = resume_of(first, joined)
    second, late = await connect("alice"), await connect("alice")
    answer = await back(second, joined, msgspec.structs.replace(resume, attempt=2))
    await late.send(Join(9, "match", joined.info.match, JoinDetails(resume=msgspec.structs.replace(resume, attempt=1))))
    refused = await late.expect(ErrorMessage)
    assert (refused.request, refused.code) == (9, "session_replaced")
    assert (await second.act(answer.channel, "move", 1)).result == 1
    assert not any(isinstance(message, Closed) for message in second.seen)
    again = await back(late, joined, msgspec.structs.replace(resume, attempt=3))
    assert again.info.session == joined.info.session


async def test_the_connection_that_still_has_the_session_is_replaced(app: Application, connect: Opener) -> None:
    first = await connect("alice")
    joined = await first.join("board")
    second = await connect("alice")
    answer = await back(second, joined, resume_of(first, joined))
    assert answer.info.recovered
    closed = None
    while not isinstance(closed, Closed):
        closed = await first.next()
    assert (closed.code, closed.reconnect) == ("session_replaced", False)
    await first.close()  # which must not take the seat from the second
    await asyncio.sleep(0.05)
    assert app.host.get(joined.info.match).match.players["alice"].connected
    assert (await second.act(answer.channel, "move", 1)).result == 1


async def test_nobody_resumes_the_session_of_another(app: Application, connect: Opener) -> None:
    alice, bob = await connect("alice"), await connect("bob")
    joined = await alice.join("board")
    await alice.act(joined.channel, "hide", "mine alone")
    stolen = await back(bob, joined, resume_of(alice, joined))
    assert (stolen.info.recovered, stolen.info.session != joined.info.session) == (False, True)
    assert stolen.info.slot != joined.info.slot
    assert b"mine alone" not in b"".join(bob.raw)
    assert not any(isinstance(message, Part) for message in bob.seen)
    await alice.send(Action(joined.channel, 2, "move", [1]))
    assert (await alice.expect(Ack)).result == 1


async def test_positions_that_cannot_be_are_answered_with_a_full_state(connect: Opener) -> None:
    alice = await connect("alice")
    joined = await alice.join("board")
    session, epoch, version = joined.info.session, joined.info.epoch, joined.info.version
    for resume in (
        Resume(session, epoch, version + 1000, 0),
        Resume(session, epoch + 5, 0, 2**53 - 1),
        Resume(session, 0, 2**53 - 1, 0),
        Resume(session, 0, 0),
    ):
        again = await connect("alice")
        info = (await back(again, joined, resume)).info
        assert (info.recovered, info.session) == (False, session)
        assert info.state is not None
    again = await connect("alice")
    info = (await back(again, joined, Resume("no-such-session", epoch, version))).info
    assert (info.recovered, info.session == session, info.seq) == (False, False, 0)
