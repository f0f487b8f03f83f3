"""The host: what is sent to whom in which order, and that one match's trouble stays its own."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from gameserver.cluster import FanoutLimits, Flow, GameRegistry, User
from gameserver.cluster.archive import SPECTATORS
from gameserver.errors import (
    ConfigError,
    GameNotFound,
    JoinRefused,
    LimitReached,
    MatchFull,
    MatchMoved,
    MatchNotFound,
    ServerDraining,
)
from gameserver.match import Game, Match
from gameserver.protocol import Resume
from gameserver.state import SPECTATORS as STATE_SPECTATORS
from tests.cluster.kit import FakeReceiver, HeldGate, enter, make_host
from tests.web.games import GAMES, Board, Flood, Walk

pytestmark = pytest.mark.looptime  # time passes only while there is nothing to do: no machine is too slow


async def turn() -> None:
    """Let what was put on this turn of the loop happen."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_one_frame_is_shared_by_all() -> None:
    """The very same bytes object goes to every receiver: built once."""
    host = make_host([Board])
    members = [await enter(host, "board", user) for user in ("a", "b", "c")]
    await turn()
    for _, receiver in members:
        receiver.clear()
    members[0][0].receive(1, "move", [1], quiet=True)
    await asyncio.sleep(0.06)
    frames = [receiver.raw[-1] for _, receiver in members]
    assert frames[0] is frames[1] is frames[2]
    assert [receiver.kinds() for _, receiver in members] == [["Frame"]] * 3
    await host.stop(1)


async def test_patch_private_parts_events_and_ack_are_one_write() -> None:
    host = make_host([Board])
    member, receiver = await enter(host, "board", "a")
    await turn()
    receiver.clear()
    member.receive(1, "hide", ["x"], quiet=False)
    member.receive(2, "ring", [], quiet=False)
    await turn()
    assert [[type(message).__name__ for message in write] for write in receiver.writes] == [
        ["Part", "Frame", "Events", "Ack", "Ack"]
    ]
    await host.stop(1)


async def test_spectators_share_everything() -> None:
    """A hundred spectators cost one encoding: each gets the same bytes, private parts of players none."""
    host = make_host([Board])
    member, _ = await enter(host, "board", "a")
    watchers = [await enter(host, "board", f"w{number}", spectate=True) for number in range(100)]
    await turn()
    for _, receiver in watchers:
        receiver.clear()
    member.receive(1, "hide", ["x"], quiet=True)
    member.receive(2, "ring", [], quiet=True)
    await turn()
    assert len({id(receiver.raw[0]) for _, receiver in watchers}) == 1
    assert {tuple(receiver.kinds()) for _, receiver in watchers} == {("Frame", "Events")}
    assert STATE_SPECTATORS == SPECTATORS
    await host.stop(1)


async def test_what_is_gated_waits_and_the_patch_does_not() -> None:
    """Commit → gate → release: acknowledgements and HIGH events leave when the gate says so, in order."""
    gate = HeldGate()
    host = make_host([Board], gate=gate)
    member, receiver = await enter(host, "board", "a")
    await turn()
    gate.release_all()
    receiver.clear()
    member.receive(1, "ring", [], quiet=False)
    await turn()
    member.receive(2, "ring", [], quiet=False)
    await turn()
    assert receiver.kinds() == ["Frame", "Frame"]
    gate.release_all()
    assert receiver.kinds() == ["Frame", "Frame", "Events", "Ack", "Events", "Ack"]
    versions = [message.version for message in receiver.messages]
    assert versions[2:] == [versions[0], versions[0], versions[1], versions[1]]
    await host.stop(1)


async def test_the_end_waits_for_the_gate_too() -> None:
    gate = HeldGate()
    host = make_host([Board], gate=gate)
    member, receiver = await enter(host, "board", "a")
    await turn()
    gate.release_all()
    receiver.clear()
    member.receive(1, "finish", [], quiet=False)
    await turn()
    assert "Closed" not in receiver.kinds()
    assert len(host) == 1
    gate.release_all()
    assert receiver.kinds()[-2:] == ["Ack", "Closed"]
    assert receiver.gone == [member.channel]
    assert len(host) == 0


async def test_a_newcomer_gets_joined_before_anything_else() -> None:
    """What happens in the turn of its join is in the state it gets, not a frame before it."""
    host = make_host([Board])
    first, _ = await enter(host, "board", "a")
    await turn()
    member, receiver = await enter(host, "board", "b")
    first.receive(1, "ring", [], quiet=False)
    member.receive(1, "ring", [], quiet=False)
    await turn()
    assert receiver.kinds() == ["Joined", "Events", "Ack"]
    assert receiver.messages[0].info.version == receiver.messages[2].version
    await host.stop(1)


async def test_lagging_and_coming_back() -> None:
    """Past the limit nothing but what may not be dropped is kept; then one state, and what was kept after it."""
    host = make_host([Board], limits=FanoutLimits(send_buffer_bytes_max=10_000))
    member, receiver = await enter(host, "board", "a")
    other, _ = await enter(host, "board", "b")
    await turn()
    receiver.clear()
    receiver.buffered = 20_000
    other.receive(1, "ring", [], quiet=True)
    await turn()
    member.receive(1, "move", [5], quiet=False)
    await asyncio.sleep(0.06)
    assert member.flow is Flow.BEHIND
    assert receiver.writes == []
    receiver.buffered = 0
    await asyncio.sleep(0.12)
    assert len(receiver.writes) == 1
    assert receiver.kinds() == ["StateMessage", "Events", "Ack"]
    other.receive(2, "ring", [], quiet=True)
    await turn()
    assert receiver.kinds()[3:] == ["Frame", "Events"]
    await host.stop(1)


async def test_held_answers_are_bounded() -> None:
    host = make_host([Board], limits=FanoutLimits(send_buffer_bytes_max=5_000))
    member, receiver = await enter(host, "board", "a")
    other, _ = await enter(host, "board", "b")
    await turn()
    receiver.buffered = 20_000
    other.receive(1, "ring", [500], quiet=True)
    await turn()
    assert receiver.aborted == 4508
    assert member.held_bytes == 0
    await host.stop(1)


async def test_too_long_behind_is_aborted() -> None:
    host = make_host([Board], limits=FanoutLimits(send_buffer_bytes_max=5_000, slow_consumer_seconds_max=0.1))
    _, receiver = await enter(host, "board", "a")
    other, _ = await enter(host, "board", "b")
    await turn()
    receiver.buffered = 20_000
    other.receive(1, "ring", [], quiet=True)
    await asyncio.sleep(0.3)
    assert receiver.aborted == 4508
    await host.stop(1)


@pytest.mark.parametrize("where", ["wake", "take_output", "accept"])
async def test_a_failing_match_is_taken_off_and_the_others_go_on(where: str, monkeypatch: Any) -> None:
    """Faults of our own code around one match: it is given up after a few, with its clients told; no other notices."""
    broken: set[str] = set()

    def fail(match: Match, *args: Any, **named: Any) -> Any:
        if match.id in broken:
            raise ZeroDivisionError("a fault of ours")
        return getattr(Match, where)(match, *args, **named)

    monkeypatch.setattr("gameserver.cluster.matches.Match", type("FaultyMatch", (Match,), {where: fail}))
    host = make_host(GAMES)
    bad_member, bad_receiver = await enter(host, "walk", "a")
    good_member, good_receiver = await enter(host, "walk", "a", options={"other": 1})
    await turn()
    assert bad_member.hosted is not good_member.hosted
    broken.add(bad_member.hosted.match_id)
    for seq in range(1, 20):
        if bad_receiver.gone:
            break
        bad_member.receive(seq, "steer", [1], quiet=True)
        await asyncio.sleep(0.06)
    assert bad_receiver.kinds()[-1] == "Closed"
    assert bad_receiver.messages[-1].code == "internal"
    assert bad_member.hosted.match_id in host.quarantined
    with pytest.raises(MatchNotFound, match="cannot be run"):
        host.get(bad_member.hosted.match_id)
    good_receiver.clear()
    await asyncio.sleep(0.25)
    assert good_receiver.kinds().count("Frame") >= 4
    await host.stop(1)


async def test_a_game_that_fails_in_every_tick_ends_with_a_reason() -> None:
    class Doomed(Game):
        tick_hz = 50
        failures_max = 3

        def on_tick(self, dt: float) -> None:
            raise RuntimeError("broken")

    host = make_host([Doomed, Walk])
    _, receiver = await enter(host, "doomed", "a")
    await asyncio.sleep(0.2)
    closed = receiver.messages[-1]
    assert (type(closed).__name__, closed.code, closed.reconnect) == ("Closed", "match_ended", False)
    assert "game_failed" in closed.message
    assert len(host) == 0


async def test_ticks_are_spread_over_the_interval() -> None:
    """A hundred matches made at once do not all tick at once."""
    host = make_host([Walk])
    for _ in range(100):
        host.create_match("walk")
    phases = sorted(hosted._alarm.at % 0.05 for hosted in host)
    assert phases[0] < 0.01
    assert phases[-1] > 0.04
    assert max(b - a for a, b in itertools.pairwise(phases)) < 0.01
    await host.stop(1)


@pytest.mark.parametrize(("tick_hz", "moments"), [(20, 10), (60, 4), (30, 7), (1, 200), (250, 1)])
async def test_matches_that_tick_share_moments(tick_hz: float, moments: int) -> None:
    """Some run one after the other, with what they need in the processor's caches; 5 ms later the next ones."""
    rate = tick_hz

    class Ticking(Walk):
        tick_hz = rate

    host = make_host([Ticking])
    for _ in range(100):
        host.create_match("ticking")
    interval = 1 / tick_hz
    begun = {round(hosted.match.origin_us / 1e6 % interval * 1e5) for hosted in host}
    assert len(begun) <= moments
    assert len(begun) > moments * 0.3
    if tick_hz == 20:
        assert len({hosted._alarm._slot % 50 for hosted in host}) == len(begun)  # no two slots for one moment
    await host.stop(1)


async def test_idle_matches_are_not_woken() -> None:
    """Without ticks and timers nothing is on the clock but the end of an empty match, a minute away."""
    host = make_host([Board])
    for _ in range(50):
        host.create_match("board")
    await turn()
    now = asyncio.get_running_loop().time()
    assert all(hosted._alarm.at > now + 50 for hosted in host)
    await host.stop(1)


async def test_joins() -> None:
    host = make_host([Board])
    with pytest.raises(GameNotFound, match="there is: board"):
        await enter(host, "nope", "a")
    members = [await enter(host, "board", f"p{number}") for number in range(7)]
    sizes = sorted(len(hosted.match.players) for hosted in host)
    assert sizes == [1, 3, 3]
    full = members[0][0].hosted
    with pytest.raises(MatchFull):
        await host.join("match", full.match_id, User("late", "Late"), FakeReceiver(), 1)
    members[1][0].leave()
    again, _ = await enter(host, "board", "p9")
    assert again.hosted is not None
    host.draining = True
    with pytest.raises(ServerDraining):
        await enter(host, "board", "late")
    await host.stop(1)


async def test_a_node_has_room_for_so_many_matches() -> None:
    host = make_host([Board])
    for _ in range(100):
        host.create_match("board")
    with pytest.raises(LimitReached):
        host.create_match("board")
    await host.stop(1)


async def test_who_may_not_join_one_match_gets_another() -> None:
    """Refused by the match that was found, and by a new one: then that is the answer."""
    host = make_host([Board])
    await enter(host, "board", "a")
    with pytest.raises(JoinRefused, match="not welcome"):
        await host.join("game", "board", User("x", "Unwelcome"), FakeReceiver(), 1)
    await host.stop(1)


def test_two_games_of_one_name_are_refused() -> None:
    other = type("Board", (Game,), {"__module__": "elsewhere"})
    with pytest.raises(ConfigError, match="Two games are called 'board'"):
        GameRegistry([Board, other])
    assert list(GameRegistry([Walk, Board, Flood])) == ["board", "flood", "walk"]


async def test_a_match_without_a_lease_does_not_spin_until_it_is_dropped() -> None:
    host = make_host([Board])
    member, _ = await enter(host, "board", "a")
    await turn()
    services = host._services
    looks = itertools.count()
    services.valid = lambda: False
    services.perf = lambda: float(next(looks))
    member.receive(1, "ring", [], quiet=False)
    await asyncio.sleep(0.2)
    assert next(looks) < 20
    await host.stop(1)


async def test_without_a_lease_nothing_leaves() -> None:
    """Neither what happens now nor what the gate has held until now."""
    gate = HeldGate()
    host = make_host([Board], gate=gate)
    member, receiver = await enter(host, "board", "a")
    await turn()
    gate.release_all()
    member.receive(1, "ring", [], quiet=False)
    await turn()
    receiver.clear()
    host._services.valid = lambda: False
    gate.release_all()
    member.receive(2, "ring", [], quiet=False)
    await asyncio.sleep(0.05)
    assert receiver.writes == []
    assert gate.held == []
    await host.stop(1)


async def test_a_node_that_cannot_ask_takes_nobody_in_who_has_seen_a_later_epoch() -> None:
    """The match was elsewhere meanwhile: what is here is old. With the store's word it is the client that errs."""
    host = make_host([Board])
    member, _ = await enter(host, "board", "a")
    await turn()
    match_id, resume = member.hosted.match_id, Resume(member.session_id, 5, 1)
    answers, doubted = [False, True], []
    asked = []

    async def is_owner(*who: Any) -> bool:
        asked.append(who)
        return answers[len(asked) - 1]

    host.is_owner, host.doubted = is_owner, doubted.append
    with pytest.raises(MatchMoved):
        await host.join("match", match_id, User("a"), FakeReceiver(), 2, resume=resume)
    assert doubted == [match_id]
    again = await host.join("match", match_id, User("a"), FakeReceiver(), 3, resume=resume)
    assert again.session_id == member.session_id
    assert asked == [("", match_id, 1)] * 2
    with pytest.raises(MatchMoved):
        again.hosted.join(User("a"), FakeReceiver(), 4, resume=resume)
    await host.stop(1)
