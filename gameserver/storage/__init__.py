"""Storage: snapshots in Redis, documents in MongoDB, and both as child processes when none is configured."""

from gameserver.errors import (
    ClaimLost,
    JournalCorrupt,
    MatchExists,
    MatchQuarantined,
    SnapshotCorrupt,
    SnapshotTooNew,
    StoreUnavailable,
)
from gameserver.storage.appends import Append
from gameserver.storage.bus import Bus, BusCounts, Subscription
from gameserver.storage.child import tied
from gameserver.storage.codec import decode_snapshot, encode_snapshot
from gameserver.storage.embedded import EmbeddedStores, free_port
from gameserver.storage.journal_ports import (
    Claimed,
    JournalEntry,
    JournalStore,
    LeaseStore,
    NodeInfo,
    Outcome,
    OwnedMatch,
    Recovered,
    StoreIdentity,
    Token,
)
from gameserver.storage.mongo_documents import MongoDocuments
from gameserver.storage.plain import from_document, to_document
from gameserver.storage.ports import (
    DocumentStore,
    InsertOutcome,
    RecordSink,
    SnapshotMeta,
)
from gameserver.storage.records import RecordWriter
from gameserver.storage.redis_bus import RedisBus
from gameserver.storage.redis_journal import RedisJournal, make_journal
from gameserver.storage.redis_presence import PresenceStore, Present, RedisPresence
from gameserver.storage.stores import Stores, open_stores
from gameserver.storage.suspects import mark_suspect

__all__ = [
    "Append",
    "Bus",
    "BusCounts",
    "ClaimLost",
    "Claimed",
    "DocumentStore",
    "EmbeddedStores",
    "InsertOutcome",
    "JournalCorrupt",
    "JournalEntry",
    "JournalStore",
    "LeaseStore",
    "MatchExists",
    "MatchQuarantined",
    "MongoDocuments",
    "NodeInfo",
    "Outcome",
    "OwnedMatch",
    "PresenceStore",
    "Present",
    "RecordSink",
    "RecordWriter",
    "Recovered",
    "RedisBus",
    "RedisJournal",
    "RedisPresence",
    "SnapshotCorrupt",
    "SnapshotMeta",
    "SnapshotTooNew",
    "StoreIdentity",
    "StoreUnavailable",
    "Stores",
    "Subscription",
    "Token",
    "decode_snapshot",
    "encode_snapshot",
    "free_port",
    "from_document",
    "make_journal",
    "mark_suspect",
    "open_stores",
    "tied",
    "to_document",
]
