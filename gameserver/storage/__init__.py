"""Storage: snapshots in Redis, documents in MongoDB, and both as child processes when none is configured."""

from gameserver.errors import SnapshotCorrupt, SnapshotTooNew, StoreUnavailable
from gameserver.storage.codec import decode_snapshot, encode_snapshot
from gameserver.storage.embedded import EmbeddedStores
from gameserver.storage.mongo_documents import MongoDocuments
from gameserver.storage.plain import from_document, to_document
from gameserver.storage.ports import (
    DocumentStore,
    InsertOutcome,
    RecordSink,
    RestoredSnapshot,
    SnapshotMeta,
    SnapshotStore,
)
from gameserver.storage.records import RecordWriter
from gameserver.storage.redis_snapshots import RedisSnapshots
from gameserver.storage.stores import Stores, open_stores

__all__ = [
    "DocumentStore",
    "EmbeddedStores",
    "InsertOutcome",
    "MongoDocuments",
    "RecordSink",
    "RecordWriter",
    "RedisSnapshots",
    "RestoredSnapshot",
    "SnapshotCorrupt",
    "SnapshotMeta",
    "SnapshotStore",
    "SnapshotTooNew",
    "StoreUnavailable",
    "Stores",
    "decode_snapshot",
    "encode_snapshot",
    "from_document",
    "open_stores",
    "to_document",
]
