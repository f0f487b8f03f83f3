"""Players on nodes that do not run their match: real hosts and crossings on virtual time, with loss and delay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gameserver.cluster import User
from gameserver.cluster.hosted import HostedMatch
from gameserver.cluster.links import Acts, decode_node, node_channel
from gameserver.cluster.owner import FULL_VERSION
from gameserver.errors import GameNotFound, MatchFull, MatchMoved, MatchNotFound, PermissionDenied
from gameserver.match import Game, game_name
from gameserver.storage import SnapshotMeta, encode_snapshot
from tests.simulation.crossing import Ledger, LooseLedger, Node, SimClient, StrictLedger, Ticking, World, settled
from tests.simulation.fleet import eventually, run_virtually

NODE_A = node_channel("gs", "a")


async def two_nodes(game: type[Game] = Ledger, *, seed: int = 0) -> tuple[World, Node, Node, HostedMatch]:
    world = World(seed)
    owner, edge = await world.node("a"), await world.node("b")
    hosted = owner.host.create_match(game_name(game))
    await eventually(lambda: world.server.get(hosted.match_id) is not None, 1.0)
    return world, owner, edge, hosted


@pytest.mark.parametrize("game", [Ledger, Ticking, StrictLedger])
def test_players_on_both_nodes_see_the_same_match(game: type[Game]) -> None:
    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(game)
        ann = await owner.client("ann", hosted.match_id)
        ben = await edge.client("ben", hosted.match_id)
        cat = await edge.client("cat", hosted.match_id)
        eve = await edge.client("eve", hosted.match_id, spectate=True)
        for number in range(30):
            ann.act("put", number)
            ben.act("shout" if number % 3 == 0 else "put", 100 + number)
            cat.act("put", 200 + number, quiet=True)
            await asyncio.sleep(0.01)
        await settled(world, hosted)
        for client in (ann, ben, cat):
            client.check_exactly_once(hosted)
        for client in (ann, ben, cat, eve):
            client.check_mirror(hosted)
            assert client.kinds["StateMessage"] == 0, "nothing was lost, so nothing was told again"
            assert client.joins == 1
            shouts = [key for key in client.events if key[0] == "shout"]
            assert len(shouts) == 10
            assert set(client.events.values()) == {1}
        assert sorted(key[0] for key in ben.events).count("echo") == 10
        assert not any(key[0] == "echo" for client in (ann, cat, eve) for key in client.events)
        assert edge.crossing.edges.gaps == 0
        await world.stop()

    run_virtually(main)


def test_a_thousand_spectators_cost_the_owner_one_publish_a_frame_and_one_attach() -> None:
    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ticking)
        ann = await owner.client("ann", hosted.match_id)
        first = await edge.client("w0", hosted.match_id, spectate=True)
        watchers = [first, *(await asyncio.gather(*(_watch(edge, hosted, f"w{n}") for n in range(1, 1000))))]
        assert len(hosted.match.watchers) == 1
        assert len(hosted.members) == 2
        await asyncio.sleep(1.2)
        assert hosted.info()["spectators"] == 1000
        before, version = owner.bus.counts.published, hosted.match.version
        for number in range(20):
            ann.act("put", number)
            await asyncio.sleep(0.05)
        await eventually(lambda: all(one.room.version == hosted.match.version for one in watchers), 1.0)
        flushes = hosted.match.version - version
        pulses = 3
        assert 20 <= flushes <= 30
        assert owner.bus.counts.published - before <= flushes + pulses
        frames = {id(watcher.raw[-1]) for watcher in watchers}
        assert len(frames) == 1, "one frame for all"
        for watcher in watchers:
            watcher.check_mirror(hosted)
            watcher.cut()
        await eventually(lambda: not hosted.match.watchers, 1.0)
        assert not edge.crossing.edges.remotes
        assert hosted.edges is None
        await world.stop()

    async def _watch(edge: Node, hosted: HostedMatch, name: str) -> SimClient:
        return await edge.client(name, hosted.match_id, spectate=True)

    run_virtually(main)


def test_actions_that_come_together_travel_together_and_nothing_overtakes_them() -> None:
    """What a player did before leaving is done before the player has left."""

    async def main() -> None:
        world, _owner, edge, hosted = await two_nodes()
        players = [await edge.client(f"p{number}", hosted.match_id) for number in range(10)]
        await asyncio.sleep(0.1)
        before = world.wire.published[NODE_A]
        for number in range(10):
            for player in players:
                player.act("put", number, quiet=True)
        assert players[0].member is not None
        players[0].member.leave()
        await asyncio.sleep(0.1)
        actions_and_leave = 2
        assert world.wire.published[NODE_A] - before == actions_and_leave
        assert hosted.match.game.total == 100
        assert len(hosted.match.players) == 9
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("lost", [False, True])
def test_actions_that_others_follow_are_sent_once(lost: bool) -> None:
    """An outcome may be long in coming; that one is missing is said by the owner. The last one is sent again."""

    async def main() -> None:
        received: list[int] = []

        def listen(payload: bytes) -> None:
            message = decode_node(payload)
            if isinstance(message, Acts):
                received.extend(action[2] for action in message.actions)

        world, owner, edge, hosted = await two_nodes(Ticking)
        owner.bus.subscribe(NODE_A, listen)
        ben = await edge.client("ben", hosted.match_id)
        await asyncio.sleep(0.1)
        for number in range(15):  # every 16th is acknowledged
            world.loss = 1.0 if lost and number == 14 else 0.0
            ben.act("put", number, quiet=True)
            await asyncio.sleep(0.2)
        world.loss = 0.0
        assert received == list(range(1, 15 if lost else 16))
        await asyncio.sleep(2.0)
        assert sorted(set(received)) == list(range(1, 16))
        await settled(world, hosted)
        ben.check_exactly_once(hosted)
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_bus_loses_mirrors_and_actions_come_right(seed: int) -> None:
    """Loss, delay and cut connections; then silence, and everyone has what the owner has, every action once."""

    async def main() -> None:
        game = [Ledger, Ticking, StrictLedger][seed % 3]
        world, owner, edge, hosted = await two_nodes(game, seed=seed)
        other = await world.node("c")
        world.loss = [0.02, 0.1, 0.3][seed % 3]
        world.delay = (0.0, 0.03)
        clients = [await owner.client("ann", hosted.match_id)]
        for number, node in enumerate((edge, edge, other)):
            clients.append(SimClient(world, f"p{number}", hosted.match_id, spectate=False))
            world.clients.append(clients[-1])
            await clients[-1].come_back(node)
        for number, node in enumerate((edge, edge, other)):
            watcher = SimClient(world, f"w{number}", hosted.match_id, spectate=True)
            world.clients.append(watcher)
            await watcher.come_back(node)
        for number in range(80):
            for place, client in enumerate(clients):
                if client.room is not None and client.room.ended is None:
                    name = "shout" if world.random.random() < 0.2 else "put"
                    client.act(name, number * 10 + place, quiet=name == "put" and world.random.random() < 0.3)
            await asyncio.sleep(world.random.uniform(0.0, 0.05))
            if number in (20, 50):
                edge.bus.cut()
                world.loop.call_later(0.3, edge.bus.mend)
        world.loss, world.delay = 0.0, (0.0, 0.001)
        await settled(world, hosted)
        for client in clients:
            client.check_exactly_once(hosted)
            assert not client.room.unacknowledged
        for client in world.clients:
            client.check_mirror(hosted)
            assert not client.closed, "sockets and sessions stay"
            assert max(client.events.values(), default=1) == 1, "an urgent event is never told twice"
        shouted = {key for client in clients for key in client.events if key[0] == "shout"}
        for client in clients:
            mine = {key for key in client.events if key[0] == "shout"}
            assert mine == shouted, "nor lost, as long as it is kept"
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("seed", range(4))
def test_reordering_is_no_worse_than_loss(seed: int) -> None:
    async def main() -> None:
        world, _, edge, hosted = await two_nodes(Ledger, seed=seed)
        ben = await edge.client("ben", hosted.match_id)
        eve = await edge.client("eve", hosted.match_id, spectate=True)
        world.wire.reorder = True
        world.delay = (0.0, 0.02)
        for number in range(60):
            ben.act("shout" if number % 7 == 0 else "put", number)
            await asyncio.sleep(0.01)
        world.wire.reorder = False
        await settled(world, hosted)
        ben.check_exactly_once(hosted)
        assert max(ben.events.values()) == 1
        assert not ben.closed
        eve.check_mirror(hosted)
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("heir", ["c", "b"])
def test_the_owner_dies_and_edge_sockets_stay(heir: str, announced: bool) -> None:
    """The heir may be a third node, or the very edge that carries the players: they notice a new epoch, no more."""

    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ticking)
        nodes = {"b": edge, "c": await world.node("c")}
        ben, cat = await edge.client("ben", hosted.match_id), await nodes["c"].client("cat", hosted.match_id)
        eve = await edge.client("eve", hosted.match_id, spectate=True)
        fay = await edge.client("fay", hosted.match_id, spectate=True)
        number = 0

        async def play(seconds: float) -> None:
            nonlocal number
            until = world.loop.time() + seconds
            while world.loop.time() < until:
                number += 1
                ben.act("shout" if number % 5 == 0 else "put", number)
                cat.act("put", 10_000 + number)
                await asyncio.sleep(0.02)

        await play(1.0)
        await owner.kill()
        await play(1.0)
        if not announced:  # what tells of the new owner is lost: the store is asked
            world.loss = 1.0
        taken = await nodes[heir].take_over(hosted.match_id)
        await asyncio.sleep(0.005)
        world.loss = 0.0
        began = world.loop.time()
        await eventually(lambda: ben.room.epoch == eve.room.epoch > 1, 2.0)
        took = world.loop.time() - began
        assert took < (0.1 if announced else 1.0)
        await play(0.5)
        await settled(world, taken)
        for client in (ben, cat):
            client.check_exactly_once(taken)
            assert len(taken.match.game.bags[client.user.id].done) == number
        for client in (ben, cat, eve, fay):
            client.check_mirror(taken)
            assert client.joins == 1
            assert not client.closed
            assert client.epochs == [1, ben.room.epoch]
            assert max(client.events.values()) == 1
        assert len([key for key in ben.events if key[0] == "shout"]) == number // 5
        await world.stop()

    run_virtually(main)


def test_a_takeover_before_the_old_owner_is_missed() -> None:
    """A paused owner that goes on publishing is not listened to once a higher epoch was seen."""

    async def main() -> None:
        world, _owner, edge, hosted = await two_nodes(Ticking)
        heir = await world.node("c")
        ben = await edge.client("ben", hosted.match_id)
        ben.act("put", 1)
        await settled(world, hosted)
        taken = await heir.take_over(hosted.match_id)
        await eventually(lambda: ben.room.epoch > 1, 1.0)
        edges = edge.crossing.edges
        assert edges.remotes[hosted.match_id].owner == "c"
        ben.act("put", 2)
        await settled(world, taken)
        assert list(taken.match.game.bags["ben"].done) == [1, 2]
        assert not ben.closed
        await world.stop()

    run_virtually(main)


def test_a_question_that_a_later_one_has_overtaken_is_not_answered() -> None:
    """The bus lost its order: what answers it would be dropped, and what happened at the same moment with it."""

    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        ben = await edge.client("ben", hosted.match_id)
        await settled(world, hosted)
        remote = edge.crossing.edges.remotes[hosted.match_id]
        [seat] = remote.seats.values()
        overtaken: list[Any] = []
        owner.bus.subscribe(node_channel("gs", "nobody"), lambda payload: overtaken.append(decode_node(payload)))
        runs_it, remote.owner = remote.owner, "nobody"
        remote.ask(seat)
        remote.owner = runs_it
        remote.ask(seat)
        await eventually(lambda: seat.asked_at is None, 0.1)
        hosted.members[seat.session].receive(1, "shout", [1], quiet=True)
        owner.crossing.owners.attach(overtaken[0])
        await settled(world, hosted)
        ben.check_mirror(hosted)
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("spectate", [False, True])
@pytest.mark.parametrize("door", ["a", "b"])
def test_who_has_seen_a_later_epoch_is_not_shown_an_earlier_one(door: str, spectate: bool) -> None:
    """By the owner before, which does not know yet, or by an edge that still follows it: they ask the store first."""

    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        heir = await world.node("c")
        ann = await edge.client("ann", hosted.match_id)
        eve = await edge.client("eve", hosted.match_id, spectate=True)
        ben = await edge.client("ben", hosted.match_id, spectate=spectate)
        ann.act("put", 1)
        await settled(world, hosted)
        ben.cut()
        world.loss = 1.0  # nobody is told
        taken = await heir.take_over(hosted.match_id)
        await ben.connect(heir)
        ben.cut()
        world.loss = 0.0
        assert owner.host.get(hosted.match_id) is hosted
        with pytest.raises(MatchMoved):
            await ben.connect(world.nodes[door])
        owner.reassertion.start()
        await ben.come_back(world.nodes[door])
        await settled(world, taken)
        assert hosted.match_id not in owner.host or door == "b"
        assert eve.epochs == ann.epochs == [1, taken.match.epoch]
        assert set(ben.epochs[1:]) == {taken.match.epoch}
        await owner.reassertion.stop()
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("after_seconds", [0.005, 0.015])
def test_a_match_that_comes_here_while_a_join_looks_for_it_elsewhere(after_seconds: float) -> None:
    """The store's answer to the join is a moment old when it arrives: the match has been claimed here meanwhile."""

    class Late:
        async def request(self) -> None:
            await asyncio.sleep(0.001)

        async def reply(self) -> None:
            await asyncio.sleep(0.01)

    async def main() -> None:
        world, owner, heir, hosted = await two_nodes(Ticking)
        heir.store.link = Late()
        joining = asyncio.create_task(heir.client("ben", hosted.match_id))
        await asyncio.sleep(after_seconds)
        heir.store.link = None
        await owner.kill()
        taken = await heir.take_over(hosted.match_id)
        ben = await asyncio.wait_for(joining, 3.0)
        ben.act("put", 1)
        await settled(world, taken)
        ann = await heir.client("ann", hosted.match_id)
        await settled(world, taken)
        ben.check_exactly_once(taken)
        assert not ben.closed + ann.closed
        assert not heir.crossing.edges.remotes
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("heir_is_the_edge", [False, True])
def test_a_player_whose_settled_actions_are_lost_numbers_anew(heir_is_the_edge: bool) -> None:
    """Without a journal a crash takes what was acknowledged: whoever stays on an edge must not wait for ever."""

    async def main() -> None:
        world, _owner, edge, hosted = await two_nodes(LooseLedger)
        heir = edge if heir_is_the_edge else await world.node("c")
        ben = await edge.client("ben", hosted.match_id)
        await asyncio.sleep(0.1)
        hosted.flush()
        meta = SnapshotMeta(hosted.game, 1, hosted.match.version, 1)
        payload = encode_snapshot(hosted.snapshot())
        assert await world.nodes["a"].writer.save(hosted.match_id, hosted.match.version, meta, payload)
        for number in range(3):
            ben.act("shout", number)
        await eventually(lambda: len(ben.results) == 3, 1.0)
        await world.nodes["a"].kill()
        taken = await heir.take_over(hosted.match_id)
        await eventually(lambda: ben.joins == 2 and ben.room.connected, 5.0)
        ben.act("put", 3)
        await settled(world, taken)
        assert list(taken.match.game.bags["ben"].done) == [3]
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("game", [Ticking, StrictLedger])
def test_urgent_events_of_a_match_that_is_put_back_are_heard(game: type[Game]) -> None:
    """What waits for the journal while the store gets the match back belongs to the new epoch."""

    class Late:
        async def request(self) -> None:
            await asyncio.sleep(0.003)

        async def reply(self) -> None:
            await asyncio.sleep(0.003)

    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(game)
        ann = await owner.client("ann", hosted.match_id)
        ben = await edge.client("ben", hosted.match_id)
        owner.store.link = Late()
        owner.reassertion.start()
        for number in range(100):
            if number == 30:
                world.server.wipe()
            ann.act("shout", number)
            await asyncio.sleep(0.005)
        await settled(world, hosted)
        assert hosted.match.epoch > 1
        for client in (ann, ben):
            client.check_exactly_once(hosted)
            client.check_mirror(hosted)
            assert [key[1] for key in client.events if key[0] == "shout"] == [f"['ann', {n}]" for n in range(100)]
            assert set(client.events.values()) == {1}
        await owner.reassertion.stop()
        await world.stop()

    run_virtually(main)


def test_a_match_that_moves_on_purpose_takes_its_edges_along() -> None:
    async def main() -> None:
        world = World()
        owner, edge, heir = await world.node("a"), await world.node("b", roles=("edge",)), await world.node("c")
        hosted = owner.host.create_match("ledger")
        await eventually(lambda: world.server.get(hosted.match_id) is not None, 1.0)
        ben = await edge.client("ben", hosted.match_id)
        ben.act("put", 1)
        await settled(world, hosted)
        owner.host.draining = True
        await asyncio.sleep(1.0)  # it says so with its next renewal
        assert await owner.handover.hand_over(hosted, 1.0)
        ben.act("put", 2)
        await eventually(lambda: hosted.match_id in heir.host, 1.0)
        taken = heir.host.get(hosted.match_id)
        await settled(world, taken)
        ben.check_exactly_once(taken)
        assert list(taken.match.game.bags["ben"].done) == [1, 2]
        assert not ben.closed
        await world.stop()

    run_virtually(main)


def test_nobody_takes_it_over() -> None:
    """In the end the players are told to come back later."""

    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        ben = await edge.client("ben", hosted.match_id)
        await owner.kill()
        ben.stopped = True  # it does not come back by itself here
        await eventually(lambda: bool(ben.closed), 30.0)
        assert ben.closed[0].reconnect
        assert ben.closed[0].code == "match_moved"
        assert not edge.crossing.edges.remotes
        await world.stop()

    run_virtually(main)


def test_an_edge_dies_and_its_players_seats_are_held() -> None:
    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        other = await world.node("c")
        ben = await edge.client("ben", hosted.match_id)
        ann = await owner.client("ann", hosted.match_id)
        ben.act("put", 1)
        await settled(world, hosted)
        session = ben.room.session
        await edge.bus.close()  # like kill -9: nobody says goodbye
        await edge.kill()
        await eventually(lambda: not hosted.match.players["ben"].connected, 8.0)
        ann.act("put", 2)
        await ben.connect(other)
        assert ben.room.session == session, "the same session, on another node"
        await settled(world, hosted)
        ben.check_mirror(hosted)
        assert ben.kinds["Joined"] == 2
        await world.stop()

    run_virtually(main)


def test_an_edge_that_was_given_up_comes_back() -> None:
    """It was silent for so long that the owner forgot it; its numbers are not begun anew, or nothing would be new."""

    async def main() -> None:
        world, _, edge, hosted = await two_nodes(Ticking)
        ben = await edge.client("ben", hosted.match_id)
        for number in range(50):
            ben.act("shout" if number % 5 == 0 else "put", number)
            await asyncio.sleep(0.02)
        world.loss = 1.0
        await eventually(lambda: not hosted.match.players["ben"].connected, 7.0)
        world.loss = 0.0
        ben.act("put", 50)
        await eventually(lambda: hosted.match.players["ben"].connected, 3.0)
        await settled(world, hosted)
        ben.check_exactly_once(hosted)
        assert len(hosted.match.game.bags["ben"].done) == 51
        ben.check_mirror(hosted)
        assert not ben.closed
        await world.stop()

    run_virtually(main)


def test_coming_back_over_another_node_continues_without_a_full_state() -> None:
    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        other = await world.node("c")
        ann, ben = await owner.client("ann", hosted.match_id), await edge.client("ben", hosted.match_id)
        ben.act("put", 1)
        await settled(world, hosted)
        ben.cut()
        await eventually(lambda: not hosted.match.players["ben"].connected, 1.0)
        for number in range(5):
            ann.act("shout", number)
            await asyncio.sleep(0.03)
        mirror = ben.room.mirror
        await ben.connect(other)
        await settled(world, hosted)
        assert ben.room.mirror is mirror, "it went on from where it was"
        assert len([key for key in ben.events if key[0] == "shout"]) == 5
        await world.stop()

    run_virtually(main)


def test_a_slow_client_behind_an_edge_gets_one_state_for_all_it_missed() -> None:
    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        ann = await owner.client("ann", hosted.match_id)
        ben, eve = await edge.client("ben", hosted.match_id), await edge.client("eve", hosted.match_id, spectate=True)
        fay = await edge.client("fay", hosted.match_id, spectate=True)
        ben.buffered = eve.buffered = 1_000_000
        for number in range(20):
            ann.act("shout" if number % 4 == 0 else "put", number)
            ben.act("put", 100 + number)
            await asyncio.sleep(0.03)
        assert ben.kinds["Frame"] <= 1
        ben.buffered = eve.buffered = 0
        await settled(world, hosted)
        for client in (ben, eve):
            assert client.kinds["StateMessage"] == 1
            client.check_mirror(hosted)
            assert len([key for key in client.events if key[0] == "shout"]) == 5
            assert max(client.events.values()) == 1
        ben.check_exactly_once(hosted)
        assert fay.kinds["StateMessage"] == 0
        assert edge.crossing.edges.gaps == 0
        await world.stop()

    run_virtually(main)


def test_leaving_is_heard_whatever_is_lost() -> None:
    async def main() -> None:
        world, _owner, edge, hosted = await two_nodes(Ledger)
        ben, cat = await edge.client("ben", hosted.match_id), await edge.client("cat", hosted.match_id)
        dan = await edge.client("dan", hosted.match_id)
        await asyncio.sleep(4.0)
        world.loss = 1.0
        ben.member.leave()
        cat.cut()
        await asyncio.sleep(0.1)
        world.loss = 0.0
        ben.stopped = cat.stopped = True
        await eventually(lambda: "ben" not in hosted.match.players, 2.0)
        await eventually(lambda: not hosted.match.players["cat"].connected, 2.0)
        assert hosted.match.players["dan"].connected
        assert not edge.crossing.edges.leaving
        assert not dan.closed
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("heir", ["c", "b"])
def test_leaving_is_heard_by_whoever_runs_the_match_next(heir: str) -> None:
    """The owner died before it heard."""

    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        nodes = {"b": edge, "c": await world.node("c")}
        ben = await edge.client("ben", hosted.match_id)
        dan = await nodes["c"].client("dan", hosted.match_id)
        ben.act("put", 1)
        await settled(world, hosted)
        world.loss = 1.0
        ben.member.leave()
        await asyncio.sleep(0.1)
        await owner.kill()
        world.loss = 0.0
        ben.stopped = True
        await asyncio.sleep(2.5)
        taken = await nodes[heir].take_over(hosted.match_id)
        await eventually(lambda: "ben" not in taken.match.players, 2.0)
        assert taken.match.players["dan"].connected
        assert not edge.crossing.edges.leaving
        assert not dan.closed
        await world.stop()

    run_virtually(main)


@pytest.mark.parametrize("others", [False, True])
def test_a_join_that_nobody_waits_for_any_more_takes_no_seat(others: bool) -> None:
    """It arrives late. Who had a seat before keeps it; a seat that is new is given up."""

    async def main() -> None:
        world, _owner, edge, hosted = await two_nodes(Ledger)
        ben = await edge.client("ben", hosted.match_id)
        await asyncio.sleep(1.0)
        ben.cut()
        ben.stopped = True
        await eventually(lambda: not hosted.match.players["ben"].connected, 2.0)
        if others:
            await edge.client("ann", hosted.match_id)
        world.delay = (0.3, 0.3)
        joins = [asyncio.create_task(edge.client(user, hosted.match_id)) for user in ("ben", "cat")]
        await asyncio.sleep(0.1)
        for join in joins:
            join.cancel()
        await eventually(lambda: "cat" in hosted.match.players, 1.0)
        await eventually(lambda: "cat" not in hosted.match.players, 2.0)
        await eventually(lambda: not hosted.match.players["ben"].connected, 2.0)
        assert hosted.match.players.keys() == {"ben", *(["ann"] if others else [])}
        await world.stop()

    run_virtually(main)


def test_what_an_owner_refuses_is_refused_at_the_edge() -> None:
    async def main() -> None:
        world, _owner, edge, hosted = await two_nodes(Ledger)
        with pytest.raises(MatchNotFound):
            await edge.client("ben", "nosuchmatch")
        hosted.game_class.players_max, before = 0, hosted.game_class.players_max
        try:
            with pytest.raises(MatchFull):
                await edge.client("ben", hosted.match_id)
        finally:
            hosted.game_class.players_max = before
        assert not edge.crossing.edges.remotes
        eve = await edge.client("eve", hosted.match_id, spectate=True)
        with pytest.raises(PermissionDenied):
            eve.act("put", 1)
        eve.member.receive(1, "put", [1], quiet=False)
        assert eve.kinds["Ack"] == 1
        assert not hosted.match.players
        await world.stop()

    run_virtually(main)


def test_an_edge_makes_no_matches_and_asks_the_owner_that_has_the_least_to_do() -> None:
    async def main() -> None:
        world = World()
        busy, idle = await world.node("a"), await world.node("b", roles=("owner",))
        edge = await world.node("e", roles=("edge",))
        for _ in range(3):
            busy.host.create_match("ticking")
        await asyncio.sleep(1.0)  # it says so with its next renewal
        ben = SimClient(world, "ben", "", spectate=False)
        member = await edge.host.join("game", "ledger", ben.user, ben, 1)
        assert (len(busy.host), len(idle.host), len(edge.host)) == (3, 1, 0)
        [hosted] = list(idle.host)
        assert member.session_id in hosted.match.sessions
        assert ben.kinds["Joined"] == 1
        ann = SimClient(world, "ann", "", spectate=False)
        await edge.host.join("game", "ledger", ann.user, ann, 1)
        assert len(hosted.match.players) == 2, "the same match while it has seats"
        info = await edge.host.place("create", "ledger", {}, ben.user)
        assert info["match"] in idle.host
        assert (await edge.host.info(info["match"]))["match"] == info["match"]
        with pytest.raises(GameNotFound):
            await edge.host.place("find", "nosuchgame", {}, ben.user)
        with pytest.raises(MatchNotFound):
            await edge.host.info("nosuchmatch")
        await world.stop()

    run_virtually(main)


def test_who_asks_different_nodes_for_a_game_at_once_meets_in_one_match() -> None:
    async def main() -> None:
        world = World()
        nodes = [await world.node(name) for name in "abc"]
        users = [SimClient(world, f"u{number}", "", spectate=False) for number in range(9)]
        joins = (
            nodes[number % 3].host.join("game", "ledger", user.user, user, 1, options={"map": "moon"})
            for number, user in enumerate(users)
        )
        members = await asyncio.gather(*joins)
        assert len({member.hosted.match_id for member in members}) == 1
        assert sum(len(node.host) for node in nodes) == 1
        [owner] = [node for node in nodes if len(node.host)]
        away = next(node for node in nodes if node is not owner)
        eve = SimClient(world, "eve", "", spectate=False)
        other = await away.host.join("game", "ledger", eve.user, eve, 1, options={"map": "mars"})
        assert other.hosted.match_id != members[0].hosted.match_id, "other options are another match"
        [hosted] = [hosted for node in nodes for hosted in node.host if "eve" in hosted.match.players]
        hosted.reserve("u0", 10.0)
        local = await away.host.place("find", "ledger", {"map": "moon"}, users[0].user)
        assert local["match"] == members[0].hosted.match_id
        await world.stop()

    run_virtually(main)


def test_a_game_is_found_without_the_node_that_people_meet_at() -> None:
    async def main() -> None:
        world = World()
        a, b = await world.node("a"), await world.node("b")
        await asyncio.sleep(1.0)
        ann = SimClient(world, "ann", "", spectate=False)
        world.loss = 1.0
        member = await a.host.join("game", "ledger", ann.user, ann, 1)
        assert member.hosted.match_id in a.host, "made here, since nobody answered"
        assert len(b.host) == 0
        world.loss = 0.0
        await world.stop()

    run_virtually(main)


def test_what_is_known_of_a_match_whose_node_does_not_answer() -> None:
    async def main() -> None:
        world, owner, edge, hosted = await two_nodes(Ledger)
        await owner.client("ann", hosted.match_id)
        await asyncio.sleep(0.2)
        info = await edge.host.info(hosted.match_id)
        assert info["players"] == 1
        assert info["players_max"] == 50
        await owner.kill()
        info = await edge.host.info(hosted.match_id)
        assert (info["match"], info["game"]) == (hosted.match_id, "ledger")
        await world.stop()

    run_virtually(main)


def test_join_names_the_direct_address() -> None:
    async def main() -> None:
        world, _owner, edge, hosted = await two_nodes(Ledger)
        await edge.client("ben", hosted.match_id)
        joined = _joined(world.clients[0])
        assert joined.info.address == "ws://a"
        await world.stop()

    run_virtually(main)


def _joined(client: SimClient) -> object:
    from tests.cluster.kit import unframed

    return unframed(client.raw[0])[0]


def test_a_position_that_no_match_has_fits_the_wire() -> None:
    assert User("a").id == "a"
    assert FULL_VERSION < 2**63
