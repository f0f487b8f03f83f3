"""Giving a match away while it is played: nothing that was acknowledged is lost, nothing is applied twice.

The match stops taking actions; what it has done is journaled, so all that waits for the gate goes out; a snapshot is
written, with the actions that are queued in it; the store is told that the match is free; its players are told that it
moved. What came in meanwhile was not answered: clients send it again to whoever runs the match next. When the store
does not go along the match goes on here, and what came in meanwhile is done after all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.errors import GameServerError
from gameserver.storage import SnapshotMeta, encode_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.journal import JournalWriter
    from gameserver.cluster.ports import Clock

log = structlog.get_logger("gameserver.cluster")

RETRY_SECONDS = 0.1
LARGE_PLAYERS = 64  # the state of more players than this is encoded in a thread
ASLEEP_AT = "asleep_at"
"""In the snapshot of a match that was put to sleep: the time of day, from which the time it slept is counted."""


class Handover:
    """Hands matches over, one by one; each at most once at a time."""

    def __init__(
        self, journal: JournalWriter, clock: Clock, *, announce: Callable[[str, int], None] | None = None
    ) -> None:
        """`announce` is told of each match that is free now, so that others need not find out for themselves."""
        self._journal = journal
        self._clock = clock
        self.announce: Callable[[str, int], None] = announce or _nobody
        self._under_way: dict[str, asyncio.Task[bool]] = {}

    async def finished(self, match_id: str) -> None:
        """Return when this match is not on its way out (any more)."""
        task = self._under_way.get(match_id)
        if task is not None:
            await asyncio.wait([task])

    async def hand_over(
        self, hosted: HostedMatch, seconds: float, *, asleep: bool = False, due_ms: int | None = None
    ) -> bool:
        """Let go of a match, trying for so long; False: it is still here, or there is nothing to hand over.

        `asleep`: nobody is to run it before `due_ms` or a join.
        """
        under_way = self._under_way.get(hosted.match_id)
        if under_way is None:
            under_way = asyncio.create_task(
                self._hand_over(hosted, seconds, asleep=asleep, due_ms=due_ms), name=f"handover of {hosted.match_id}"
            )
            self._under_way[hosted.match_id] = under_way
            under_way.add_done_callback(lambda _: self._under_way.pop(hosted.match_id, None))
        return await asyncio.shield(under_way)  # half a handover is worse than a late one

    async def _hand_over(self, hosted: HostedMatch, seconds: float, *, asleep: bool, due_ms: int | None) -> bool:
        if hosted.journal is None or not hosted.begin_leaving():
            return False
        deadline = self._clock.now() + seconds
        gone = False
        try:
            extra = {ASLEEP_AT: self._clock.wall()} if asleep else {}
            version = hosted.match.version
            payload = await _encode(hosted, hosted.snapshot() | extra)
            meta = SnapshotMeta(hosted.game, hosted.match.epoch, version, hosted.game_class.state_version)
            gone = await self._until(
                hosted, deadline, lambda: self._journal.save(hosted.match_id, version, meta, payload)
            ) and await self._until(
                hosted, deadline, lambda: self._journal.release(hosted.match_id, asleep=asleep, due_ms=due_ms)
            )
        except GameServerError as error:
            log.warning("match_not_handed_over", match=hosted.match_id, game=hosted.game, error=error.message)
        except Exception as failure:
            log.error("handover_failed", match=hosted.match_id, game=hosted.game, exc_info=failure)
        finally:
            if gone:
                hosted.leave_node()
            else:
                hosted.stay()
        if gone and not asleep:
            self.announce(hosted.match_id, hosted.match.epoch)
        return gone

    async def _until(self, hosted: HostedMatch, deadline: float, call: Callable[[], Any]) -> bool:
        """Repeat a call whose outcome is unknown until it is known. False, too, once the match was dropped."""
        while hosted.leaving:
            try:
                return bool(await call())
            except GameServerError as error:
                if not error.retryable or self._clock.now() + RETRY_SECONDS >= deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
        return False


async def _encode(hosted: HostedMatch, snapshot: dict[str, Any]) -> bytes:
    """The dump shares nothing with the match, so a large one need not hold up the others."""
    if len(hosted.match.players) > LARGE_PLAYERS:
        return await asyncio.to_thread(encode_snapshot, snapshot)
    return encode_snapshot(snapshot)


def _nobody(match_id: str, epoch: int) -> None:
    """Nobody is told."""
