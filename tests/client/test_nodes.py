"""Clients of several nodes: carried to the match's node, or going there themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gameserver.app import Application
from gameserver.client import Client, ServerUnreachable
from gameserver.config import Settings
from gameserver.storage import free_port
from tests.client.conftest import token
from tests.client.games import Counter
from tests.client.test_client_live import until

pytestmark = pytest.mark.slow


@pytest.fixture
async def nodes(store_settings: Settings) -> AsyncIterator[tuple[Application, Application]]:
    """Two of them, on the same stores."""

    def node(name: str) -> Application:
        server = store_settings.server.model_copy(update={"port": 0, "node_id": name})
        return Application(store_settings.model_copy(update={"server": server}), [Counter])

    one, other = node("n1"), node("n2")
    await one.start()
    await other.start()
    yield one, other
    await other.stop()
    await one.stop()


async def test_a_client_goes_to_the_match_if_it_wants_to(nodes: tuple[Application, Application]) -> None:
    """And notices nothing: not a frame is missing."""
    one, other = nodes
    async with (
        Client(one.url, token=token("alice")) as alice,
        Client(other.url, token=token("bob"), direct=True) as bob,
        Client(other.url, token=token("carl")) as carl,
    ):
        room = await alice.create("counter")
        stays, here = await carl.join(room.match_id), await bob.join(room.match_id)
        told: list[bool] = []
        here.on_reconnect(lambda recovered: told.append(recovered))
        await until(lambda: told == [True])
        assert one.web is not None
        assert len(one.web.connections) == 2
        assert len(one.host.get(room.match_id).members) == 3
        assert list(other.node.crossing.edges.remotes) == [room.match_id], "carl is carried still"
        assert [await one.action("add", n=1) for one in (room, here, stays)] == [1, 2, 3]
        await until(lambda: {one.state.count for one in (room, here, stays)} == {3})


async def test_the_same_game_asked_for_on_different_nodes_is_one_match(nodes: tuple[Application, Application]) -> None:
    """And all nodes list it."""
    async with Client(nodes[0].url, token=token("alice")) as alice, Client(nodes[1].url, token=token("bob")) as bob:
        rooms = await asyncio.gather(alice.join_or_create("counter"), bob.join_or_create("counter"))
        assert rooms[0].match_id == rooms[1].match_id
        await rooms[0].action("add", n=1)
        for node in nodes:
            assert node.web is not None
            listed = await node.web.operations.list_matches({"game": "counter"})
            assert [found.match for found in listed.matches] == [rooms[0].match_id]
            assert (await node.web.operations.match(rooms[0].match_id)).players == 2


async def test_a_client_that_knows_several_nodes_goes_to_another_one(nodes: tuple[Application, Application]) -> None:
    """It comes in by the first that is there, and leaves one that drains for the other."""
    one, other = nodes
    nobody = f"http://127.0.0.1:{free_port()}"
    async with (
        Client([nobody, one.url, other.url], name="alice") as alice,
        Client(other.url, token=token("bob")) as bob,
    ):
        room = await alice.create("counter")
        assert one.host.get(room.match_id)
        await bob.join(room.match_id)
        session, told = room.session, []
        room.on_reconnect(lambda recovered: told.append(recovered))
        await one.stop()
        assert await room.action("add", n=1) == 1
        assert told
        assert room.session == session
        assert other.web is not None
        assert len(other.web.connections) == 2


async def test_nobody_is_at_any_of_the_addresses() -> None:
    with pytest.raises(ServerUnreachable):
        await Client([f"http://127.0.0.1:{free_port()}" for _ in range(2)], name="alice").connect()
    with pytest.raises(ValueError, match="address"):
        Client([])
