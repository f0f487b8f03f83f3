"""The matches that the store holds, claimed and run again when a node starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gameserver.errors import GameServerError

if TYPE_CHECKING:
    from gameserver.cluster.host import Host
    from gameserver.storage import JournalStore, OwnedMatch

log = structlog.get_logger("gameserver.cluster")

CONCURRENT_CLAIMS = 16


async def claim_all(store: JournalStore, host: Host, node: str) -> int:
    """Claim every match that nobody else can be running, and run it from its journal; how many are."""
    slots = asyncio.Semaphore(CONCURRENT_CLAIMS)

    async def claim(owned: OwnedMatch) -> bool:
        if owned.game not in host.registry:
            log.warning(
                "match_left_alone", match=owned.match_id, game=owned.game,
                reason="its game is not loaded here; it stays as it is",
            )  # fmt: skip
            return False
        async with slots:
            try:
                claimed = await store.claim(owned.match_id, node, expect_epoch=owned.epoch)
                recovered = await store.recover(owned.match_id)
            except GameServerError as error:
                log.error("match_not_recovered", match=owned.match_id, game=owned.game, error=error.message)
                host.quarantined[owned.match_id] = error.message
                return False
        return host.run_recovered(recovered, claimed.token) is not None

    found = [owned for owned in await store.owned() if owned.node in ("", node)]
    return sum(await asyncio.gather(*map(claim, found)))
