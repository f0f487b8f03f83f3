"""What the store refused is looked into, whatever is being looked into already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gameserver.cluster.reassert import Copy, Holding, Reassertion
from gameserver.metrics import Metrics
from gameserver.storage import SnapshotMeta, Token, encode_snapshot
from tests.simulation.memory_journal import MemoryJournal, MemoryServer

META = SnapshotMeta("arena", 1, 5, 1)


class Slow:
    """A way to the store on which answers wait until they are let through."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def request(self) -> None:
        """It gets there."""

    async def reply(self) -> None:
        await self.open.wait()


class OneMatch:
    def __init__(self, token: Token) -> None:
        self.token = token
        self.given: list[Token] = []

    def holdings(self) -> Mapping[str, Holding]:
        return {"m1": Holding(self.token, 5)}

    def copy(self, match_id: str) -> Copy | None:
        return Copy(META, encode_snapshot({}))

    def reasserted(self, token: Token, version: int) -> None:
        self.token = token
        self.given.append(token)

    def fenced(self, match_id: str) -> None:
        raise AssertionError("it is ours")


async def test_what_is_refused_while_its_match_is_looked_at_is_looked_at_again() -> None:
    server = MemoryServer(asyncio.get_running_loop().time)
    token = await MemoryJournal(server).create("m1", "a", meta=META, snapshot=encode_snapshot({}))
    way = Slow()
    host = OneMatch(token)
    reassertion = Reassertion(MemoryJournal(server, way), lambda: True, host, Metrics())
    reassertion.look_at_all()
    looking = asyncio.create_task(reassertion.look())
    await asyncio.sleep(0)
    reassertion.refused("m1")  # the store has said already that all is well with it
    way.open.set()
    await looking
    assert [given.epoch for given in host.given] == [2]
