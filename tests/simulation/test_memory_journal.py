"""The in-memory journal store keeps the contract that the real one keeps."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gameserver.errors import StoreUnavailable
from gameserver.storage import Append, JournalStore, Outcome
from tests.simulation.memory_journal import MemoryJournal, MemoryServer
from tests.storage.journal_contract import JournalContract, created, extend


class MemoryHarness:
    """A `MemoryServer` with a back door and a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.server = MemoryServer(lambda: self.now)

    def journal(self) -> JournalStore:
        return MemoryJournal(self.server)

    async def wipe(self) -> None:
        self.server.wipe()

    async def keep(self) -> Any:
        return self.server.save_point()

    async def rewind(self, kept: Any) -> None:
        self.server.rewind(kept)

    async def entries(self, match_id: str) -> dict[int, bytes]:
        return copy.copy(self.server.matches[match_id].journal)

    async def put_entry(self, match_id: str, version: int, data: bytes | None) -> None:
        journal = self.server.matches[match_id].journal
        if data is None:
            del journal[version]
        else:
            journal[version] = data

    async def put_snapshot(self, match_id: str, data: bytes) -> None:
        self.server.matches[match_id].snapshot = data

    async def get_snapshot(self, match_id: str) -> bytes:
        return self.server.matches[match_id].snapshot or b""

    async def keys(self, match_id: str) -> int:
        held = self.server.matches[match_id]
        return 1 + (held.snapshot is not None) + bool(held.journal)


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        self.memory = MemoryHarness()
        return self.memory

    async def pass_time(self, seconds: float) -> None:
        self.memory.now += seconds


class Lossy:
    """A way that loses what it is told to."""

    def __init__(self, lost: str) -> None:
        self.lost = lost

    async def request(self) -> None:
        if self.lost == "request":
            raise StoreUnavailable("lost on the way")

    async def reply(self) -> None:
        if self.lost == "reply":
            raise StoreUnavailable("lost on the way back")


@pytest.mark.parametrize(("lost", "stored"), [("request", 0), ("reply", 1)])
async def test_a_link_may_lose_a_call_or_its_answer(lost: str, stored: int) -> None:
    """The caller cannot tell which, and asks again."""
    harness = MemoryHarness()
    journal = MemoryJournal(harness.server)
    token = await created(journal)
    journal.link = Lossy(lost)
    with pytest.raises(StoreUnavailable):
        await journal.append([Append(token, 0, 1, b"x")])
    assert len(await harness.entries("m1")) == stored
    journal.link = None
    assert await extend(journal, token, 0, 1) == [Outcome.DONE]
    assert len(await harness.entries("m1")) == 1
