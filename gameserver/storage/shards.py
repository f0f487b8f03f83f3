"""Which shard a match belongs to: its keys carry it as their hash tag, so that one script may touch all of a shard."""

from __future__ import annotations

import zlib

SHARDS = 64  # part of every key: must never change


def shard_of(match_id: str) -> int:
    """The shard that holds everything of this match."""
    return zlib.crc32(match_id.encode()) % SHARDS
