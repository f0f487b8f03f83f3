"""Players who come and go while something breaks: by leaving, or like a process that is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random

from gameserver.client import CloseReason
from gameserver.errors import GameServerError, OutcomeUnknown, SessionReplaced
from tests.chaos.fleet import POLL_SECONDS, Fleet, Node
from tests.chaos.players import Player

ARRIVE_SECONDS_MAX = 2.5
STAY_SECONDS = (0.3, 2.0)
GIVE_UP_SECONDS = 60.0
RETRY_SECONDS = 0.2


class Visitor(Player):
    """One who is there for a while. Who vanished has a seat still, and comes back to it later to leave."""

    def __init__(self, user: str, nodes: Sequence[Node], fleet: Fleet, random: Random, interval_seconds: float) -> None:
        super().__init__(user, nodes, fleet, random, interval_seconds)
        self.leaves = False
        """Is the seat to be given up, or to be held, after the visit?"""
        self.over = False
        """Was the seat given up?"""
        self._nodes = list(nodes)
        self._acknowledged_before: set[int] = set()
        self._gone = True
        self._late = False

    async def visit(
        self, match_id: str, history: dict[tuple[int, int], int], *, leaves: bool, late: bool = False
    ) -> None:
        """Come, act, and go. `late`: what was sent to a node that did not answer may arrive after all."""
        self.leaves, self._late = leaves, late
        self._acknowledged_before = set(self.books.acknowledged)
        await asyncio.sleep(self._random.uniform(0.0, ARRIVE_SECONDS_MAX))
        if not await self._come(match_id, history):
            return
        self.acting.set()
        await asyncio.sleep(self._random.uniform(*STAY_SECONDS))
        if self.leaves:
            await self._leave()
        else:
            self._gone = True
            await self.stop_acting()
            await self.client.vanish()

    async def _come(self, match_id: str, history: dict[tuple[int, int], int]) -> bool:
        """Try one node after the other, as somebody would who wants to play."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        self._gone = False
        while True:
            self._nodes.append(self._nodes.pop(0))
            self.client = self._make_client(self._nodes)
            try:
                await self.enter(match_id, history)
                return True
            except GameServerError as error:
                await self.client.close()
                if time.monotonic() > deadline:
                    self._note(f"cannot come in: {error.code}: {error.message}")
                    return False
                await asyncio.sleep(RETRY_SECONDS)

    async def _leave(self) -> None:
        """With actions under way. What a server hears that is out of reach is not what is tried here."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not self.room.connected and not self._gone:
            if time.monotonic() > deadline:
                self._note("cannot leave: the match is out of reach")
                break
            await asyncio.sleep(POLL_SECONDS)
        self._gone = True
        try:
            await self.room.leave()
        except GameServerError:
            pass  # the answer was lost
        await self.close()

    def _failed(self, name: str, error: GameServerError) -> None:
        """An owner that dies takes a join along that it had not journaled: no action of this visit was acknowledged."""
        if not isinstance(error, OutcomeUnknown) or self.books.acknowledged - self._acknowledged_before:
            super()._failed(name, error)

    def _closed(self, reason: CloseReason) -> None:
        if self._late and reason.code == SessionReplaced.code:  # by its own first try
            self._gone, self.leaves = True, False
        super()._closed(reason)

    def _note(self, error: str) -> None:
        if not self._gone:
            super()._note(error)
