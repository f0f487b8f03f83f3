"""What this node holds as owner, as takeover and putting back see it: which matches, under which tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gameserver.cluster.reassert import Copy, Holding
from gameserver.storage import SnapshotMeta, encode_snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gameserver.cluster.archive import Archive
    from gameserver.cluster.host import Host
    from gameserver.cluster.journal import JournalWriter
    from gameserver.storage import Recovered, Token


class Tenure:
    """Implements `TakeoverHost` and `ReassertHost` over the host and its journal writer."""

    def __init__(self, host: Host, writer: JournalWriter, archive: Archive | None) -> None:
        self._host = host
        self._writer = writer
        self._archive = archive

    # --- TakeoverHost -------------------------------------------------------------------------------------------------
    def keeps(self, match_id: str) -> bool:
        """Does this match still concern this node: run, being ended, set aside here?"""
        ending = self._archive is not None and self._archive.is_ending(match_id)
        return ending or match_id in self._host or match_id in self._host.quarantined

    def room(self) -> int:
        """How many more matches it may run."""
        return 0 if self._host.draining else self._host.room

    def run(self, recovered: Recovered, token: Token) -> bool:
        """Run (or finish) this match under this token. False: it cannot be run here; another node may try."""
        host = self._host
        if recovered.game not in host.registry:
            return False
        hosted = host.run_recovered(recovered, token)
        # One that cannot be restored is not kept from nodes that can: how often it is tried counts in the store.
        return hosted is not None or host.quarantined.pop(token.match_id, None) is None

    # --- ReassertHost -------------------------------------------------------------------------------------------------
    def holdings(self) -> Mapping[str, Holding]:
        """All matches that run here and have a token."""
        found = ((hosted.match_id, self._writer.holding(hosted.match_id)) for hosted in self._host)
        return {match_id: Holding(*held) for match_id, held in found if held is not None}

    def copy(self, match_id: str) -> Copy | None:
        """Commit what happened so far and take a snapshot; None if the match does not run here any more."""
        hosted = self._host.local(match_id)
        if hosted is None:
            return None
        hosted.flush()
        if hosted.closed and not hosted.leaving:
            return None
        match = hosted.match
        meta = SnapshotMeta(hosted.game, match.epoch, match.version, hosted.game_class.state_version)
        return Copy(meta, encode_snapshot(hosted.snapshot()), {match.epoch: hosted.base_version})

    def reasserted(self, token: Token, version: int) -> None:
        """The match goes on under this token; the store has everything up to this version."""
        self._writer.reasserted(token, version)
        hosted = self._host.local(token.match_id)
        if hosted is not None:
            hosted.enter_epoch(token.epoch, version)
            if self._host.crossing is not None:
                self._host.crossing.adopted(hosted)

    def fenced(self, match_id: str) -> None:
        """The match is not this node's any more: drop it."""
        hosted = self._host.local(match_id)
        self._writer.forget(match_id)
        if hosted is not None:
            hosted.fenced()

    def drop_all(self) -> None:
        """The lease is lost: nothing here is this node's any more. A `Membership.on_lost`."""
        for hosted in list(self._host):
            hosted.fenced()
