"""Matches as documents: what history knows of a match, written beside it and never awaited by it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.errors import GameServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.ports import Clock
    from gameserver.cluster.snapshots import Snapshotter
    from gameserver.storage import DocumentStore

SPECTATORS = "*spectators"  # the viewer that all spectators share; a test compares it with the state's

log = structlog.get_logger("gameserver.cluster")

TOUCH_SECONDS = 60.0  # a match that changes is noted as active at least this often: listings look five minutes back
NOTE_SECONDS = 1.0  # for so long what is to be noted of matches is collected: many cost little more than one
NOTES_MAX = 100  # in one write
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
UNSETTLED_SECONDS = 0.1  # how often an ended match is looked at whose records are not all written
CONCURRENT_WRITES = 8


class Archive:
    """Writes match documents; the final one is repeated until it is stored.

    Only then, and when all that the match asked for is done, its snapshot and journal go: until then they are what
    remembers it.
    """

    def __init__(self, documents: DocumentStore, snapshots: Snapshotter, clock: Clock) -> None:
        self._documents = documents
        self._snapshots = snapshots
        self._clock = clock
        self._written: dict[str, tuple[float, dict[str, Any]]] = {}
        self._slots = asyncio.Semaphore(CONCURRENT_WRITES)
        self._endings: dict[str, asyncio.Task[None]] = {}
        self._failing = False
        self._notes: dict[str, tuple[HostedMatch, dict[str, Any]]] = {}
        self._noting: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        snapshots.on_saved = self.touch  # a match that had something to save has something to say

    def __len__(self) -> int:
        """How many matches have ended that the stores do not know of yet, or not all of."""
        return len(self._endings)

    def touch(self, hosted: HostedMatch) -> None:
        """Note the match as active, in the background, if there is anything new to say or it was long ago.

        One write is under way at a time: while the store is away they wait, and snapshots do not wait for them.
        """
        info = document_of(hosted)
        written = self._written.get(hosted.match_id)
        if written is not None and written[1] == info and self._clock.now() - written[0] < TOUCH_SECONDS:
            return
        self._notes[hosted.match_id] = (hosted, info)
        if self._noting is None:
            self._noting = asyncio.create_task(self._note(), name="notes of matches")

    async def _note(self) -> None:
        """Write what is noted, until there is no more."""
        try:
            while self._notes:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(NOTE_SECONDS):
                        await self._closing.wait()
                taken = [self._notes.pop(match_id) for match_id in list(self._notes)[:NOTES_MAX]]
                if taken:  # else they have all ended meanwhile
                    await self._write_notes(taken)
        finally:
            self._noting = None

    async def _write_notes(self, notes: Sequence[tuple[HostedMatch, dict[str, Any]]]) -> None:
        try:
            await self._documents.save_matches([info for _, info in notes])
        except GameServerError as error:
            if not error.retryable and len(notes) > 1:  # one of them cannot be stored: which?
                for note in notes:
                    await self._write_notes([note])
            elif not self._failing:
                self._failing = True
                log.warning("match_document_failed", match=notes[0][0].match_id, error=error.message, retry="later")
            return
        self._failing = False
        for hosted, info in notes:
            if not hosted.closed:
                self._written[hosted.match_id] = (self._clock.now(), info)

    def ended(self, hosted: HostedMatch, reason: str) -> None:
        """Write the final document in the background, then delete the snapshot."""
        self._written.pop(hosted.match_id, None)
        self._notes.pop(hosted.match_id, None)
        fields = document_of(hosted) | final_fields(hosted)
        task = asyncio.create_task(self._finish(hosted, reason, fields), name=f"end of {hosted.match_id}")
        self._endings[hosted.match_id] = task
        task.add_done_callback(lambda _: self._endings.pop(hosted.match_id, None))

    def is_ending(self, match_id: str) -> bool:
        """Is its final document still on its way?"""
        return match_id in self._endings

    async def _finish(self, hosted: HostedMatch, reason: str, fields: dict[str, Any]) -> None:
        match_id, token = hosted.match_id, hosted.token
        attempt = 0
        while True:
            try:
                async with self._slots:
                    await self._documents.match_ended(match_id, reason=reason, fields=fields)
                while hosted.match.unsettled:  # noqa: ASYNC110 - whose records are late is rare, and in no hurry
                    await asyncio.sleep(UNSETTLED_SECONDS)
                async with self._slots:
                    await self._snapshots.delete(match_id, token)
            except GameServerError as error:
                if error.retryable:
                    pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                    attempt += 1
                    await asyncio.sleep(pause)
                    continue
                if "final_state" in fields:
                    # Too large or not storable: the match's result matters more than its last state.
                    log.warning("final_state_not_stored", match=match_id, error=error.message)
                    del fields["final_state"]
                    continue
                log.error("match_end_not_stored", match=match_id, error=error.message)
                return
            else:
                return

    async def close(self, seconds: float) -> None:
        """Wait for what is under way; ends that cannot be written are written after the next start."""
        self._closing.set()
        tasks = [*self._endings.values()]
        if self._noting is not None:
            tasks.append(self._noting)
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=seconds)
        if self._endings:
            log.warning("match_ends_left_for_next_start", count=len(self._endings))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def document_of(hosted: HostedMatch) -> dict[str, Any]:
    """What the match's document says of it; nothing that changes with every tick, or it would be written as often."""
    info = hosted.match.info()
    fields = ("players", "players_max", "spectators", "summary", "epoch")
    return {
        "id": hosted.match_id,
        "game": hosted.game,
        "player_ids": sorted(hosted.match.players),
        "options": hosted.match.options,
        **{name: info[name] for name in fields},
    }


def final_fields(hosted: HostedMatch) -> dict[str, Any]:
    """What is added at the end: how long it was and where it stood, as spectators saw it."""
    match = hosted.match
    return {
        "version": match.version,
        "duration_seconds": match.clock_us / 1_000_000,
        "final_state": match.tree.view(SPECTATORS),
    }
