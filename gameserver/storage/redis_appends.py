"""The call of `append.lua` for any number of entries, as it goes over the wire.

It is written here and not by hiredis: what is the same for all entries of a match is made once, and a payload is copied
once, into the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gameserver.storage.journal_codec import HEADER_BYTES, entry_header
from gameserver.storage.redis_calls import script_sha
from gameserver.storage.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.storage.appends import Append
    from gameserver.storage.journal_ports import Token

PLACES_MAX = 10_000
KEYS_PER_ENTRY, ARGS_PER_ENTRY = 2, 7


class Place:
    """What an entry's keys and first arguments are under one token: where it goes, what proves the right to do so."""

    __slots__ = ("fence", "keys", "token")

    def __init__(self, token: Token, prefix: str) -> None:
        stem = f"{prefix}:{{s{shard_of(token.match_id)}}}:{token.match_id}:"
        self.token = token
        self.keys = _word(f"{stem}token".encode()) + _word(f"{stem}journal".encode())
        self.fence = _word(token.node.encode()) + _word(b"%d" % token.epoch) + _word(token.store.encode())


class AppendCalls:
    """Makes the calls of one journal."""

    __slots__ = ("_command", "_flag", "_places", "_prefix")

    def __init__(self, prefix: str, *, replicas: bool) -> None:
        """`replicas`: the call is followed by a WAIT."""
        self._prefix = prefix
        self._flag = _word(b"1" if replicas else b"")
        self._command = _word(b"EVALSHA") + _word(script_sha("append").encode())
        self._places: dict[str, Place] = {}

    def packed(self, entries: Sequence[Append]) -> bytes:
        """The call for these entries: its words in the Redis protocol, keys before arguments."""
        count = len(entries)
        words_count = 4 + (KEYS_PER_ENTRY + ARGS_PER_ENTRY) * count
        keys = [f"*{words_count}\r\n".encode(), self._command, _word(f"{KEYS_PER_ENTRY * count}".encode())]
        args = [self._flag]
        for entry in entries:
            place = self._place(entry.token)
            keys.append(place.keys)
            base, version, size = f"{entry.base}", f"{entry.version}", HEADER_BYTES + len(entry.payload)
            connected = "" if entry.connected is None else f"{entry.connected}"
            args.append(place.fence)
            args.append(f"${len(base)}\r\n{base}\r\n${len(version)}\r\n{version}\r\n${size}\r\n".encode())
            args.append(entry_header(entry))
            args.append(entry.payload)
            args.append(f"\r\n${len(connected)}\r\n{connected}\r\n".encode())
        return b"".join(keys + args)

    def _place(self, token: Token) -> Place:
        place = self._places.get(token.match_id)
        if place is None or place.token is not token:
            if len(self._places) == PLACES_MAX:
                self._places.clear()
            place = self._places[token.match_id] = Place(token, self._prefix)
        return place


def _word(word: bytes) -> bytes:
    """One word of a command."""
    return b"$%d\r\n%b\r\n" % (len(word), word)
