"""One match leaves a node: what is under way at that moment is neither lost nor done twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gameserver import Game, List, Player, Priority, action
from gameserver.cluster import User
from gameserver.cluster.hosted import HostedMatch
from gameserver.errors import MatchMoved, MatchNotFound, MatchQuarantined, StoreUnavailable
from gameserver.protocol import Ack, Closed
from tests.cluster.fleet import FleetNode
from tests.cluster.kit import FakeReceiver
from tests.simulation.memory_journal import MemoryServer


class Notes(Game):
    """Keeps what it is told."""

    empty_seconds = None
    notes: List[int]

    @action
    def later(self, player: Player, value: int) -> None:
        self.notes.append(value)

    @action(priority=Priority.HIGH)
    def urgent(self, player: Player, value: int) -> int:
        self.notes.append(value)
        return value


async def eventually(condition: Callable[[], Any], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def fleet() -> AsyncIterator[tuple[FleetNode, FleetNode]]:
    store = MemoryServer(time.monotonic)
    nodes = FleetNode("a", store, [Notes]), FleetNode("b", store, [Notes])
    for node in nodes:
        await node.begin()
    yield nodes
    for node in nodes:
        await node.end()


async def enter(node: FleetNode, match_id: str | None = None) -> tuple[Any, FakeReceiver]:
    receiver = FakeReceiver()
    kind, name = ("match", match_id) if match_id else ("create", "notes")
    return await node.host.join(kind, name, User("anne", "Anne"), receiver, 1), receiver


def acked(receiver: FakeReceiver) -> list[int]:
    return [message.seq for message in receiver.messages if isinstance(message, Ack) and not message.status]


async def test_what_was_done_is_answered_and_what_was_queued_goes_along(fleet: tuple[FleetNode, FleetNode]) -> None:
    a, b = fleet
    member, receiver = await enter(a)
    match_id = member.hosted.match_id
    member.receive(1, "urgent", [1], quiet=False)
    member.receive(2, "later", [2], quiet=False)  # waits for its batch
    a.link.seconds = 0.02
    leaving = asyncio.create_task(a.handover.hand_over(member.hosted, 2.0))
    await eventually(lambda: member.hosted.leaving)
    member.receive(3, "urgent", [3], quiet=False)  # too late for this node, and nobody says that it was done
    assert await leaving
    assert acked(receiver) == [1]
    [closed] = [message for message in receiver.messages if isinstance(message, Closed)]
    assert (closed.code, closed.reconnect) == ("match_moved", True)
    assert match_id not in a.host
    member, receiver = await enter(b, match_id)
    match = member.hosted.match
    assert match.epoch > 1
    await eventually(lambda: list(match.game.notes) == [1, 2])


async def test_without_the_store_the_match_stays_and_does_what_came_in_meanwhile(
    fleet: tuple[FleetNode, FleetNode],
) -> None:
    a, _ = fleet
    member, receiver = await enter(a)
    await eventually(lambda: a.writer.token(member.hosted.match_id))
    a.link.cut = True
    a.link.seconds = 0.02
    leaving = asyncio.create_task(a.handover.hand_over(member.hosted, 0.5))
    await asyncio.sleep(0.05)
    assert member.hosted.leaving
    with pytest.raises(MatchMoved):
        member.hosted.join(User("bob"), FakeReceiver(), 1)
    member.receive(1, "urgent", [1], quiet=False)
    assert not await leaving
    assert not member.hosted.leaving
    a.link.cut = False
    await eventually(lambda: acked(receiver) == [1])
    assert list(member.hosted.match.game.notes) == [1]
    assert not [message for message in receiver.messages if isinstance(message, Closed)]


async def test_who_asks_while_it_leaves_gets_it_back(fleet: tuple[FleetNode, FleetNode]) -> None:
    a, _ = fleet
    member, _ = await enter(a)
    a.link.seconds = 0.02
    leaving = asyncio.create_task(a.handover.hand_over(member.hosted, 2.0))
    await eventually(lambda: member.hosted.leaving)
    again, _ = await enter(a, member.hosted.match_id)
    assert await leaving
    assert again.hosted is not member.hosted
    assert again.hosted.match.epoch > member.hosted.match.epoch


async def test_a_match_is_never_here_twice(fleet: tuple[FleetNode, FleetNode]) -> None:
    """The node that ran it claims it anew, and hears of that before the old one's next write is refused."""
    a, _ = fleet
    member, receiver = await enter(a)
    match_id = member.hosted.match_id
    member.receive(1, "urgent", [1], quiet=False)
    await eventually(lambda: acked(receiver) == [1])
    again = await claim_again(a, match_id)
    assert list(a.host) == [again]
    assert member.hosted.closed
    [closed] = [message for message in receiver.messages if isinstance(message, Closed)]
    assert (closed.code, closed.reconnect) == ("match_moved", True)
    member, receiver = await enter(a, match_id)
    assert member.hosted is again
    member.receive(1, "urgent", [2], quiet=False)
    await eventually(lambda: acked(receiver) == [1])
    assert list(again.match.game.notes) == [1, 2]


async def test_who_does_not_know_that_it_let_go_of_a_match_does_not_let_go_of_it_again(
    fleet: tuple[FleetNode, FleetNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the store is lost, the match comes back to the same node: under a token that is not its own."""
    a, _ = fleet
    member, _ = await enter(a)
    match_id = member.hosted.match_id
    released = asyncio.Event()

    async def lost(*args: Any, release: Any = a.journal.release, **kwargs: Any) -> None:
        await release(*args, **kwargs)
        released.set()
        raise StoreUnavailable("The answer is lost.")

    with monkeypatch.context() as patch:
        patch.setattr(a.journal, "release", lost)
        leaving = asyncio.create_task(a.handover.hand_over(member.hosted, 2.0))
        await released.wait()
    again = await claim_again(a, match_id)
    assert not await leaving
    [owned] = await a.journal.find([match_id])
    assert owned is not None
    assert (owned.node, owned.epoch) == ("a", again.match.epoch)
    assert list(a.host) == [again]
    assert not again.closed


async def claim_again(node: FleetNode, match_id: str) -> HostedMatch:
    """What a takeover does in the end, at the node that has the match already."""
    claimed = await node.journal.claim(match_id, node.name, expect_epoch=node.host.get(match_id).match.epoch)
    hosted = node.host.run_recovered(await node.journal.recover(match_id), claimed.token)
    assert hosted is not None
    return hosted


async def test_two_who_ask_for_a_match_at_once_get_the_same(fleet: tuple[FleetNode, FleetNode]) -> None:
    a, b = fleet
    member, _ = await enter(a)
    match_id = member.hosted.match_id
    assert await a.handover.hand_over(member.hosted, 2.0)
    results = await asyncio.gather(*(node.arrivals.bring(match_id) for node in (a, a, b, b)))
    assert sorted(results) == [False, False, True, True]
    assert (match_id in a.host) + (match_id in b.host) == 1


async def test_a_match_that_takes_nodes_down_is_set_aside(fleet: tuple[FleetNode, FleetNode]) -> None:
    a, b = fleet
    member, _ = await enter(a)
    match_id = member.hosted.match_id
    assert await a.handover.hand_over(member.hosted, 2.0)
    epoch = 1
    for _ in range(3):
        claimed = await a.journal.claim(match_id, "a", expect_epoch=epoch)
        epoch = claimed.token.epoch
        await a.journal.note_suspect(claimed.token, "spin did not return")
        await a.journal.release(claimed.token)
    with pytest.raises(MatchQuarantined):
        await b.arrivals.bring(match_id)
    with pytest.raises(MatchNotFound):
        await enter(b, match_id)
