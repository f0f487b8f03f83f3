"""Snapshots as bytes: a header that tells damage and age, then msgpack.

    magic "GSS" · format version (1 byte) · length of the body (4 bytes) · CRC-32 of the body (4 bytes) · body

The checksum finds damage, not tampering: who can write to the store is trusted.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgpack
import msgspec

from gameserver.errors import SnapshotCorrupt, SnapshotTooNew, StateError

MAGIC = b"GSS"
FORMAT_VERSION = 1
_HEADER = struct.Struct(">3sBII")
_encode = msgspec.msgpack.Encoder().encode


def encode_snapshot(snapshot: dict[str, Any]) -> bytes:
    """The snapshot as bytes; raises `StateError` if it holds what cannot be stored."""
    try:
        body = _encode(snapshot)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StateError(f"The snapshot cannot be stored: {error}") from None
    return _HEADER.pack(MAGIC, FORMAT_VERSION, len(body), zlib.crc32(body)) + body


def decode_snapshot(data: bytes) -> dict[str, Any]:
    """What was encoded; raises `SnapshotCorrupt`, or `SnapshotTooNew` for a format that this server does not know."""
    if len(data) < _HEADER.size:
        raise SnapshotCorrupt(f"The snapshot is cut short: {len(data)} bytes.")
    magic, version, length, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise SnapshotCorrupt("The snapshot does not begin like one.")
    if version > FORMAT_VERSION:
        raise SnapshotTooNew(f"The snapshot has format {version}, this server reads up to {FORMAT_VERSION}.")
    if version < 1:
        raise SnapshotCorrupt("The snapshot names a format that never was.")
    body = memoryview(data)[_HEADER.size :]
    if len(body) != length:
        raise SnapshotCorrupt(f"The snapshot has {len(body)} bytes where {length} were written.")
    if zlib.crc32(body) != checksum:
        raise SnapshotCorrupt("The snapshot does not match its checksum.")
    try:
        snapshot = msgpack.unpackb(body, raw=False, strict_map_key=False)
    except Exception as error:  # noqa: BLE001 - msgpack raises half a dozen unrelated types on bad bytes
        raise SnapshotCorrupt(f"The snapshot cannot be decoded: {error}") from None
    if not isinstance(snapshot, dict):
        raise SnapshotCorrupt("The snapshot is not a map.")
    return snapshot
