"""The call of `append.lua` for any number of entries. What is the same for all entries of a match is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hiredis

from gameserver.storage.journal_codec import encode_entry
from gameserver.storage.redis_calls import script_sha
from gameserver.storage.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from gameserver.storage.appends import Append
    from gameserver.storage.journal_ports import Token

PLACES_MAX = 10_000


class Place:
    """Where the entries go that are written under one token, and what proves the right to do so, as bytes."""

    __slots__ = ("epoch", "journal_key", "node", "store", "token", "token_key")

    def __init__(self, token: Token, prefix: str) -> None:
        stem = f"{prefix}:{{s{shard_of(token.match_id)}}}:{token.match_id}:"
        self.token = token
        self.token_key, self.journal_key = f"{stem}token".encode(), f"{stem}journal".encode()
        self.node, self.epoch, self.store = token.node.encode(), b"%d" % token.epoch, token.store.encode()


class AppendCalls:
    """Makes the calls of one journal."""

    __slots__ = ("_flag", "_places", "_prefix", "_sha")

    def __init__(self, prefix: str, *, replicas: bool) -> None:
        """`replicas`: the call is followed by a WAIT."""
        self._prefix = prefix
        self._flag = b"1" if replicas else b""
        self._sha = script_sha("append").encode()
        self._places: dict[str, Place] = {}

    def packed(self, entries: Sequence[Append]) -> bytes:
        """The call for these entries, as it goes over the wire."""
        keys: list[Any] = [b"EVALSHA", self._sha, 2 * len(entries)]
        args: list[Any] = [self._flag]
        for entry in entries:
            place = self._place(entry.token)
            keys += (place.token_key, place.journal_key)
            args += (place.node, place.epoch, place.store, entry.base, entry.version, encode_entry(entry))
            args.append(b"" if entry.connected is None else entry.connected)
        packed: bytes = hiredis.pack_command((*keys, *args))
        return packed

    def _place(self, token: Token) -> Place:
        place = self._places.get(token.match_id)
        if place is None or place.token is not token:
            if len(self._places) == PLACES_MAX:
                self._places.clear()
            place = self._places[token.match_id] = Place(token, self._prefix)
        return place
