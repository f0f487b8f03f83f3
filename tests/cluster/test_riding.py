"""Acknowledgements of games that tick go with the next tick's frame once the gate lets them; none is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gameserver import Game, Player, Priority, action
from gameserver.cluster import Host
from gameserver.cluster.hosted_output import HURRIED_ACTIONS
from gameserver.errors import MatchMoved
from tests.cluster.kit import FakeReceiver, HeldGate, enter, make_host

pytestmark = pytest.mark.looptime  # time passes only while there is nothing to do: no machine is too slow


class Drum(Game):
    """Something changes in every tick."""

    tick_hz = 20
    beats: int = 0

    @action
    def hit(self, player: Player) -> int:
        return self.beats

    @action(priority=Priority.HIGH)
    def crash(self, player: Player) -> None:
        self.emit("crash", self.beats, priority=Priority.HIGH)

    @action
    def stop(self, player: Player) -> None:
        self.end("stopped")

    def on_tick(self, dt: float) -> None:
        self.beats += 1


class Still(Drum):
    """Nothing changes by itself."""

    def on_tick(self, dt: float) -> None:
        pass


class Slow(Drum):
    """The next tick is half a second away."""

    tick_hz = 2


async def acted(game: type[Game], tick: float = 0.06) -> tuple[Host, Any, FakeReceiver, HeldGate]:
    """A match in which an action was applied, whose acknowledgement waits at the gate."""
    gate = HeldGate()
    host = make_host([game], gate=gate)
    member, receiver = await enter(host, game.__name__.lower(), "a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.release_all()
    member.receive(1, "hit", [], quiet=False)
    await asyncio.sleep(tick)
    receiver.clear()
    return host, member, receiver, gate


def kinds(receiver: FakeReceiver) -> list[list[str]]:
    return [[type(message).__name__ for message in write] for write in receiver.writes]


async def test_an_acknowledgement_goes_with_the_next_frame() -> None:
    """One write per connection and tick: released between two ticks it waits for the second."""
    host, _, receiver, gate = await acted(Drum)
    gate.release_all()
    assert kinds(receiver) == []
    await asyncio.sleep(0.05)
    assert kinds(receiver)[0] == ["Frame", "Ack"]
    await host.stop(1)


@pytest.mark.parametrize(("actions", "at_once"), [(HURRIED_ACTIONS, False), (HURRIED_ACTIONS + 1, True)])
async def test_who_sends_a_window_at_once_does_not_wait_for_a_tick(actions: int, at_once: bool) -> None:
    """The client of an offline queue sends on when it has the acknowledgements, not before."""
    host, member, receiver, gate = await acted(Drum)
    for seq in range(2, 2 + actions):
        member.receive(seq, "hit", [], quiet=False)
    await asyncio.sleep(0.05)
    receiver.clear()
    gate.release_all()
    assert kinds(receiver) == ([["Ack"], ["Ack"] * actions] if at_once else [])
    await host.stop(1)


async def test_it_does_not_need_a_frame() -> None:
    host, _, receiver, gate = await acted(Still)
    gate.release_all()
    assert kinds(receiver) == []
    await asyncio.sleep(0.05)
    assert kinds(receiver) == [["Ack"]]
    await host.stop(1)


async def test_what_is_urgent_takes_it_along_and_stays_behind_it() -> None:
    host, member, receiver, gate = await acted(Drum)
    gate.release_all()
    member.receive(2, "crash", [], quiet=False)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert kinds(receiver) == [["Frame", "Ack"]]
    gate.release_all()
    assert kinds(receiver)[1:] == [["Events", "Ack"]]
    assert [message.seq for message in receiver.messages if type(message).__name__ == "Ack"] == [1, 2]
    await host.stop(1)


async def test_what_is_urgent_does_not_overtake_it_at_the_gate() -> None:
    """Both are released in the same turn: the earlier acknowledgement is written first, at once."""
    host, member, receiver, gate = await acted(Drum)
    member.receive(2, "crash", [], quiet=False)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    receiver.clear()
    gate.release_all()
    assert [kind for write in kinds(receiver) for kind in write] == ["Ack", "Events", "Ack"]
    await host.stop(1)


async def test_with_slow_ticks_it_does_not_wait() -> None:
    host, _, receiver, gate = await acted(Slow, tick=0.6)
    gate.release_all()
    assert kinds(receiver) == [["Ack"]]
    await host.stop(1)


@pytest.mark.parametrize("how", ["leave", "stand still", "end", "close"])
async def test_it_is_not_left_behind_when_no_tick_comes(how: str) -> None:
    """The match leaves this node, stands still, or ends."""
    host, member, receiver, gate = await acted(Drum)
    gate.release_all()
    if how == "leave":
        assert member.hosted.begin_leaving()
    elif how == "stand still":
        member.hosted.stand_still()
    elif how == "close":
        member.hosted.close(MatchMoved(), reconnect=True)
        assert receiver.kinds()[-1] == "Closed"
    else:
        member.receive(2, "stop", [], quiet=True)
        await asyncio.sleep(0.05)
    assert "Ack" in receiver.kinds()
    await host.stop(1)


async def test_released_after_the_match_stands_still_it_goes_at_once() -> None:
    host, member, receiver, gate = await acted(Drum)
    assert member.hosted.begin_leaving()
    receiver.clear()
    gate.release_all()
    assert "Ack" in receiver.kinds()
    await host.stop(1)
