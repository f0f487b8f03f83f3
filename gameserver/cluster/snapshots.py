"""Snapshots of the matches of this node: at an interval, when a match goes quiet, at the end, and back at the start.

Only what changed is saved. A snapshot is taken between two turns of a match, encoded off its tick, and written while
the match goes on.
"""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.errors import GameServerError
from gameserver.storage import SnapshotMeta, encode_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gameserver.cluster.hosted import HostedMatch
    from gameserver.cluster.journal import JournalWriter
    from gameserver.cluster.ports import Clock
    from gameserver.storage import Token

log = structlog.get_logger("gameserver.cluster")

POLL_SECONDS = 0.25
STEP_SECONDS = 0.005
FIRST_SHARE_MIN = 0.1  # of its interval: each match is first saved at a moment of its own, by its id
CONCURRENT_SAVES = 16
JOURNALED_INTERVALS = 6  # a journaled match is saved this much less often, unless its journal grows long
PROVEN_SECONDS = 2.0  # a match that was taken over is saved after so long, which ends the count of its attempts
LARGE_BYTES = 65_536  # a snapshot that was larger than this last time is encoded in a thread


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When a changed match is saved: so long after its first unsaved change, or once it has been quiet."""

    interval_seconds: float = 10.0
    idle_seconds: float = 1.0


class Snapshotter:
    """Saves changed matches in the background."""

    def __init__(
        self,
        writer: JournalWriter,
        clock: Clock,
        policy: SnapshotPolicy,
    ) -> None:
        """Snapshots go through the journal's writer: they are fenced like all that is written, and trim the journal."""
        self._writer = writer
        self._clock = clock
        self._policy = policy
        self.on_saved: Callable[[HostedMatch], None] | None = None
        self._unsaved: dict[str, HostedMatch] = {}
        self._unproven: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._apart: set[str] = set()  # those that were saved at a moment of their own
        self._slots = asyncio.Semaphore(CONCURRENT_SAVES)
        self._saves: set[asyncio.Task[bool]] = set()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def start(self) -> None:
        """Begin to look after changed matches."""
        self._task = asyncio.create_task(self._run(), name="snapshots")

    async def stop(self, seconds: float) -> None:
        """Stop looking. What is being written is written to its end, unless that takes longer than this."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._saves:
            _, unfinished = await asyncio.wait(self._saves, timeout=seconds)
            for save in unfinished:
                save.cancel()  # the match stays unsaved: `save_all` comes to it again

    def changed(self, hosted: HostedMatch) -> None:
        """This match has something to save. Matches that never change never cost anything here."""
        self._unsaved[hosted.match_id] = hosted

    def taken_over(self, hosted: HostedMatch) -> None:
        """It came from another node: once it has run here for a moment, that is noted, and it counts as unharmed."""
        self._unproven[hosted.match_id] = self._clock.now() + PROVEN_SECONDS
        hosted.unsaved_since = self._clock.now()
        self.changed(hosted)

    def forget(self, match_id: str) -> None:
        """The match is not hosted here any more."""
        self._unproven.pop(match_id, None)
        self._unsaved.pop(match_id, None)
        self._sizes.pop(match_id, None)
        self._apart.discard(match_id)

    async def delete(self, match_id: str, token: Token | None = None) -> None:
        """The match is over and its document written: its snapshot goes, and its journal."""
        self.forget(match_id)
        if token is not None:
            await self._writer.end(token)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                due = [hosted for hosted in self._unsaved.values() if self._is_due(hosted)]
                if due:
                    await self._save_in_turn(due)
            except Exception as failure:
                log.error("snapshot_round_failed", exc_info=failure)

    def _is_due(self, hosted: HostedMatch) -> bool:
        now = self._clock.now()
        since = hosted.unsaved_since
        if since is None or hosted.closed:
            return False
        if hosted.match_id in self._unproven:
            return now >= self._unproven[hosted.match_id]
        # Matches that began together, or were taken over together, would be due together ever after.
        share = 1.0 if hosted.match_id in self._apart else first_share(hosted.match_id)
        interval = self._policy.interval_seconds * share
        if hosted.journaled:
            # Nothing is at risk: a snapshot only keeps the journal short, and readings after a crash quick.
            return self._writer.wants_snapshot(hosted.match_id, share) or now - since >= interval * JOURNALED_INTERVALS
        return now - since >= interval or now - hosted.flushed_at >= self._policy.idle_seconds

    async def _save_in_turn(self, matches: Sequence[HostedMatch]) -> None:
        """Save these, begun a few at a time until the next look: what they take is noticed by other matches."""
        steps = max(1, int(POLL_SECONDS / STEP_SECONDS))
        at_once = -(-len(matches) // steps)
        for first in range(0, len(matches), at_once):
            for hosted in matches[first : first + at_once]:
                if self._is_due(hosted):  # still
                    save = asyncio.create_task(self._save(hosted), name=f"snapshot {hosted.match_id}")
                    self._saves.add(save)
                    save.add_done_callback(self._over)
            await asyncio.sleep(STEP_SECONDS)
        if self._saves:
            await asyncio.wait(self._saves)  # not gathered: who stops this does not stop them

    def _over(self, save: asyncio.Task[bool]) -> None:
        self._saves.discard(save)
        if not save.cancelled() and (failure := save.exception()) is not None:
            log.error("snapshot_round_failed", exc_info=failure)

    async def save_all(self, matches: Iterable[HostedMatch]) -> int:
        """Save these, many at a time; answers how many could not be saved (they stay unsaved and are tried again)."""
        outcomes = await asyncio.gather(*(self._save(hosted) for hosted in matches))
        return outcomes.count(False)

    async def _save(self, hosted: HostedMatch) -> bool:
        async with self._slots:
            since = hosted.unsaved_since
            try:
                hosted.flush()
                if hosted.match.ended is not None:
                    return True  # the archive has it
                if hosted.match.pending:
                    return False  # without a lease nothing is committed, and it is about to be dropped here
                version = hosted.match.version
                snapshot = hosted.snapshot()
            except Exception as failure:
                log.error("snapshot_refused", match=hosted.match_id, game=hosted.game, exc_info=failure)
                hosted.unsaved_since = self._clock.now()  # not at once again
                return False
            hosted.unsaved_since = None
            try:
                payload = await self._encode(hosted.match_id, snapshot)
                await self._write(hosted, version, payload)
            except (GameServerError, OSError, TimeoutError) as failure:
                hosted.unsaved_since = since if since is not None else self._clock.now()
                self._failed(hosted, failure)
                return False
            self._saved(hosted, version)
        if self.on_saved is not None:
            self.on_saved(hosted)
        return True

    def _saved(self, hosted: HostedMatch, version: int) -> None:
        """The store has it as it was at this version."""
        if hosted.saved_version < version:
            hosted.saved_version = version
        if self._unproven.pop(hosted.match_id, None) is None:
            self._apart.add(hosted.match_id)
        if hosted.unsaved_since is None:
            self._unsaved.pop(hosted.match_id, None)
        if self._failing:
            self._failing = False
            log.info("snapshots_work_again")

    async def _encode(self, match_id: str, snapshot: dict[str, Any]) -> bytes:
        """The dump shares nothing with the match, so a large one can be encoded while the match goes on."""
        if self._sizes.get(match_id, 0) > LARGE_BYTES:
            payload = await asyncio.to_thread(encode_snapshot, snapshot)
        else:
            await asyncio.sleep(0)  # what has come in meanwhile goes first
            payload = encode_snapshot(snapshot)
        self._sizes[match_id] = len(payload)
        return payload

    async def _write(self, hosted: HostedMatch, version: int, payload: bytes) -> None:
        meta = SnapshotMeta(hosted.game, hosted.match.epoch, version, hosted.game_class.state_version)
        if not await self._writer.save(hosted.match_id, version, meta, payload):
            # Someone else has written a later one, or the match is over: nothing of ours may replace that.
            log.warning("snapshot_not_accepted", match=hosted.match_id, version=version)

    def _failed(self, hosted: HostedMatch, failure: Exception) -> None:
        if not self._failing:  # once per outage, not once per match and round
            self._failing = True
            log.warning("snapshot_failed", match=hosted.match_id, error=str(failure), retry="with the next round")


def first_share(match_id: str) -> float:
    """After how much of its interval this match is first saved: as good as random, and always the same."""
    return FIRST_SHARE_MIN + (1.0 - FIRST_SHARE_MIN) * zlib.crc32(match_id.encode()) / 2**32
