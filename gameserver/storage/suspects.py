"""Marking a match whose code does not return, from a thread, while the event loop of the process stands still."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gameserver.storage.redis_calls import script_text
from gameserver.storage.shards import shard_of

SECONDS = 1.0


def mark_suspect(url: str, prefix: str, match_id: str, node: str, epoch: int, reason: str) -> bool:
    """Count the match as suspect in this epoch; False: it is not this node's (any more). Raises what goes wrong.

    See `JournalStore.note_suspect`. It has a client of its own, and never takes long.
    """
    no_retry = Retry(NoBackoff(), 0)
    client = redis.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=no_retry)
    try:
        key = f"{prefix}:{{s{shard_of(match_id)}}}:{match_id}:token"
        store = client.hget(key, "store") or b""
        return bool(client.eval(script_text("suspect").decode(), 1, key, node, str(epoch), store, reason) == 0)
    finally:
        client.close()
