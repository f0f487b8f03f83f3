"""Journal entries as bytes, and a match put together from what a store holds of it.

    magic "GSJ" · format version (1 byte) · state_version (4) · epoch (8) · base (8) · version (8) ·
    length of the payload (4) · CRC-32 of all that is before it and of the payload (4) · payload

An entry knows its place, so one that is moved or cut is as damaged as one with wrong bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

from gameserver.errors import JournalCorrupt, SnapshotCorrupt, SnapshotTooNew
from gameserver.storage.appends import Append
from gameserver.storage.codec import decode_snapshot
from gameserver.storage.journal_ports import JournalEntry, Recovered
from gameserver.storage.ports import SnapshotMeta

MAGIC = b"GSJ"
FORMAT_VERSION = 1
_PLACE = struct.Struct(">3sBIQQQI")
_CHECKSUM = struct.Struct(">I")
HEADER_BYTES = _PLACE.size + _CHECKSUM.size


def encode_entry(append: Append) -> bytes:
    """The entry with its header."""
    return entry_header(append) + append.payload


def entry_header(append: Append) -> bytes:
    """What stands before the payload: of `HEADER_BYTES`."""
    payload = append.payload
    place = _PLACE.pack(
        MAGIC, FORMAT_VERSION, append.state_version, append.token.epoch, append.base, append.version, len(payload)
    )
    return place + _CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(place)))


def decode_entry(data: bytes) -> JournalEntry:
    """What was encoded; raises `JournalCorrupt`, or `SnapshotTooNew` for a format that this server does not know."""
    if len(data) < HEADER_BYTES:
        raise JournalCorrupt(f"A journal entry is cut short: {len(data)} bytes.")
    magic, format_version, state_version, epoch, base, version, length = _PLACE.unpack_from(data)
    if magic != MAGIC:
        raise JournalCorrupt("A journal entry does not begin like one.")
    if format_version > FORMAT_VERSION:
        raise SnapshotTooNew(f"A journal entry has format {format_version}, this server reads up to {FORMAT_VERSION}.")
    payload = data[HEADER_BYTES:]
    if len(payload) != length:
        raise JournalCorrupt(f"A journal entry has {len(payload)} bytes where {length} were written.")
    (checksum,) = _CHECKSUM.unpack_from(data, _PLACE.size)
    if zlib.crc32(payload, zlib.crc32(data[: _PLACE.size])) != checksum:
        raise JournalCorrupt("A journal entry does not match its checksum.")
    return JournalEntry(base, version, epoch, state_version, payload)


def assemble(
    match_id: str,
    token: Mapping[bytes, bytes],
    snapshot: Mapping[bytes, bytes],
    journal: Sequence[tuple[bytes, Mapping[bytes, bytes]]],
) -> Recovered:
    """The match from its token, its snapshot and its journal; raises `JournalCorrupt` for whatever does not fit."""
    try:
        version, epoch = int(token[b"version"]), int(token[b"epoch"])
        attempts, bases = int(token.get(b"attempts", b"0")), parse_bases(token[b"bases"].decode())
        meta = SnapshotMeta(
            game=snapshot[b"game"].decode(),
            epoch=int(snapshot[b"epoch"]),
            version=int(snapshot[b"version"]),
            state_version=int(snapshot[b"state_version"]),
        )
        payload = snapshot[b"payload"]
    except (KeyError, ValueError) as error:
        raise JournalCorrupt(f"The fields of the token or the snapshot are not complete: {error!r}.") from None
    try:
        state = decode_snapshot(payload)
    except SnapshotCorrupt as error:
        raise JournalCorrupt(error.message) from None
    entries = [_entry(id_, fields) for id_, fields in journal]
    after = [entry for entry in entries if entry.version > meta.version]
    _check_chain(after, meta.version, version)
    before = _contiguous([entry for entry in entries if entry.version <= meta.version], meta.version, after)
    return Recovered(match_id, meta, state, after, before, version, epoch, attempts, bases)


def _entry(id_: bytes, fields: Mapping[bytes, bytes]) -> JournalEntry:
    data = fields.get(b"e")
    if data is None:
        raise JournalCorrupt(f"Journal entry {id_!r} is empty.")
    entry = decode_entry(data)
    if id_ != b"%d-0" % entry.version:
        raise JournalCorrupt(f"The journal entry of version {entry.version} is stored as {id_!r}.")
    return entry


def _check_chain(entries: Sequence[JournalEntry], start: int, end: int) -> None:
    """From `start` each entry begins where the one before ended, or earlier, and the last ends at `end`."""
    reached, epoch = start, 0
    for entry in entries:
        if entry.base > reached:
            raise JournalCorrupt(f"The journal has nothing from version {reached} to {entry.base}.")
        if entry.epoch < epoch:
            raise JournalCorrupt(f"The journal goes back from epoch {epoch} to {entry.epoch}.")
        reached, epoch = entry.version, entry.epoch
    if reached != end:
        raise JournalCorrupt(f"The journal ends at version {reached}, {end} was stored.")


def _contiguous(entries: Sequence[JournalEntry], end: int, after: Sequence[JournalEntry]) -> list[JournalEntry]:
    """The longest run of entries up to the snapshot."""
    start = min(after[0].base, end) if after else end
    kept: list[JournalEntry] = []
    for entry in reversed(entries):
        if entry.version < start:
            break
        kept.append(entry)
        start = min(start, entry.base)
    return kept[::-1]


def parse_bases(text: str) -> dict[int, int]:
    """`"1=0 2=40"` as a map."""
    return {int(epoch): int(version) for epoch, _, version in (item.partition("=") for item in text.split())}


def format_bases(bases: Mapping[int, int], limit: int) -> str:
    """The inverse of `parse_bases`, of the last `limit` epochs."""
    return " ".join(f"{epoch}={bases[epoch]}" for epoch in sorted(bases)[-limit:])
