"""Matches, players and records in MongoDB.

matches   _id (match id), game, status live|ended, created_at, updated_at, ended_at, end_reason, + fields of the game
players   _id (user id), created_at, last_seen_at, profile, profile_version, + fields
records   _id (idempotency key or a new id), kind, match, at, priority, data
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import DESCENDING, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from gameserver.errors import LimitReached, NotFound, RequestInvalid, StoreUnavailable
from gameserver.storage.mongo_client import mongo_errors, open_database, stale_reads
from gameserver.storage.plain import escape_key, from_document, to_document
from gameserver.storage.ports import InsertOutcome

PROFILE_BYTES_MAX = 65_536
PROFILE_ATTEMPTS_MAX = 20
UPSERT_ATTEMPTS_MAX = 5
DUPLICATE_KEY = 11_000

_MATCH_RESERVED = frozenset({"_id", "created_at", "updated_at", "ended_at", "end_reason"})
_PLAYER_RESERVED = frozenset({"_id", "id", "created_at", "last_seen_at", "profile", "profile_version"})


class MongoDocuments:
    """`DocumentStore` over one MongoDB database."""

    def __init__(self, client: Any, database: str) -> None:
        self.database = open_database(client, database)
        self._matches = self.database["matches"]
        self._players = self.database["players"]
        self._records = self.database["records"]

    async def create_indexes(self) -> None:
        """Make the indexes that the reads below rely on; those that exist are left alone."""
        with mongo_errors():
            # "Active in the last 5 minutes", over all games and for one.
            await self._matches.create_index([("status", 1), ("updated_at", DESCENDING)], name="active")
            await self._matches.create_index(
                [("game", 1), ("status", 1), ("updated_at", DESCENDING)], name="game_active"
            )
            await self._players.create_index([("last_seen_at", DESCENDING)], name="last_seen")
            await self._records.create_index([("match", 1), ("at", DESCENDING)], name="match")
            await self._records.create_index([("kind", 1), ("at", DESCENDING)], name="kind")

    async def save_match(self, doc: Mapping[str, Any]) -> bool:
        """See `DocumentStore.save_match`."""
        return await self._update_live(*_live(doc))

    async def save_matches(self, docs: Sequence[Mapping[str, Any]]) -> int:
        """See `DocumentStore.save_matches`."""
        updates = [_live_update(*_live(doc)) for doc in docs]
        if not updates:
            return 0  # the driver takes no write without anything in it
        with mongo_errors():
            try:
                await self._matches.bulk_write([UpdateOne(*update, upsert=True) for update in updates], ordered=False)
            except BulkWriteError as error:
                taken = [updates[number] for number in _duplicates(error)]
                result = await self._matches.bulk_write([UpdateOne(*update) for update in taken], ordered=False)
                return len(docs) - len(taken) + int(result.matched_count)
        return len(docs)

    async def match_ended(self, match_id: str, *, reason: str, fields: Mapping[str, Any] | None = None) -> bool:
        """See `DocumentStore.match_ended`."""
        now = _now()
        last = _fields(fields or {}, _MATCH_RESERVED, skip="id")
        last |= {"status": "ended", "end_reason": to_document(reason), "ended_at": now, "updated_at": now}
        return await self._update_live(match_id, last)

    async def get_match(self, match_id: str) -> dict[str, Any] | None:
        """See `DocumentStore.get_match`."""
        with mongo_errors():
            return _document(await self._matches.find_one({"_id": match_id}))

    async def active_matches(
        self, minutes: float = 5, *, game: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """See `DocumentStore.active_matches`."""
        query: dict[str, Any] = {
            "status": "live",
            "updated_at": {"$gte": _now() - datetime.timedelta(minutes=minutes)},
        }
        if game is not None:
            query["game"] = game
        return await _found(stale_reads(self._matches).find(query).sort("updated_at", DESCENDING).limit(limit))

    async def get_player(self, user_id: str) -> dict[str, Any] | None:
        """See `DocumentStore.get_player`."""
        with mongo_errors():
            return _document(await self._players.find_one({"_id": user_id}))

    async def upsert_player(self, user_id: str, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `DocumentStore.upsert_player`."""
        now = _now()
        update = {
            "$set": _fields(fields or {}, _PLAYER_RESERVED) | {"last_seen_at": now},
            "$setOnInsert": {"created_at": now, "profile": {}, "profile_version": 0},
        }
        for _ in range(UPSERT_ATTEMPTS_MAX):
            with mongo_errors():
                try:
                    found = await self._players.find_one_and_update(
                        {"_id": user_id}, update, upsert=True, return_document=ReturnDocument.AFTER
                    )
                except DuplicateKeyError:
                    continue
            document = _document(found)
            # Of two first visits that meet, one finds the id taken (or, on some servers, gets no document back).
            if document is not None:
                return document
        raise StoreUnavailable("MongoDB did not return the player that it was told to create.")

    async def update_profile(self, user_id: str, profile: Mapping[str, Any]) -> dict[str, Any]:
        """See `DocumentStore.update_profile`."""
        changes: dict[str, Any] = to_document(profile, "profile")
        for _ in range(PROFILE_ATTEMPTS_MAX):
            with mongo_errors():
                player = await self._players.find_one({"_id": user_id})
            if player is None:
                raise NotFound(f"There is no player {user_id}.")
            merged = player.get("profile", {}) | changes
            merged = {key: value for key, value in merged.items() if value is not None}
            if len(bson.encode(merged)) > PROFILE_BYTES_MAX:
                raise LimitReached(f"A profile may have {PROFILE_BYTES_MAX} bytes.")
            version = player.get("profile_version", 0)
            with mongo_errors():
                result = await self._players.update_one(
                    {"_id": user_id, "profile_version": version},
                    {"$set": {"profile": merged, "profile_version": version + 1}},
                )
            if result.matched_count:
                plain: dict[str, Any] = from_document(merged)
                return plain
        raise LimitReached("The profile is being changed by too many at once: try again.")

    async def insert_records(self, encoded: Sequence[bytes]) -> InsertOutcome:
        """See `DocumentStore.insert_records`."""
        with mongo_errors():
            try:
                await self._records.insert_many([RawBSONDocument(record) for record in encoded], ordered=False)
            except BulkWriteError as error:
                return _outcome(error, len(encoded))
        return InsertOutcome(written=len(encoded), duplicate=0, refused=0)

    async def records(self, match_id: str, *, kind: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """See `DocumentStore.records`."""
        query = {"match": match_id} if kind is None else {"match": match_id, "kind": kind}
        return await _found(stale_reads(self._records).find(query).sort("at", DESCENDING).limit(limit))

    async def _update_live(self, match_id: str, fields: dict[str, Any]) -> bool:
        """Update or create, unless the match has ended: then the filter misses and the upsert finds the id taken.

        The id is taken as well when two first saves meet; the loser then finds a live document to update.
        """
        query, update = _live_update(match_id, fields)
        with mongo_errors():
            try:
                await self._matches.update_one(query, update, upsert=True)
            except DuplicateKeyError:
                result = await self._matches.update_one(query, update)
                return bool(result.matched_count)
        return True


def _live(doc: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The id of a live match, and the fields that it gets."""
    if not isinstance(doc.get("id"), str) or not isinstance(doc.get("game"), str):
        raise RequestInvalid("A match document needs the texts `id` and `game`.")
    return doc["id"], {"status": "live"} | _fields(doc, _MATCH_RESERVED, skip="id") | {"updated_at": _now()}


def _live_update(match_id: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is looked for, and what becomes of it: nothing of a match that has ended."""
    query = {"_id": match_id, "status": {"$ne": "ended"}}
    return query, {"$set": fields, "$setOnInsert": {"created_at": fields["updated_at"]}}


def _duplicates(error: BulkWriteError) -> list[int]:
    """Which writes of many found their id taken; anything else is the store's trouble."""
    failed = _refused(error)
    if any(each.get("code") != DUPLICATE_KEY for each in failed):
        raise error
    return [each["index"] for each in failed]


def _fields(fields: Mapping[str, Any], reserved: frozenset[str], *, skip: str | None = None) -> dict[str, Any]:
    """The author's fields as they may be set at the top level of a document."""
    taken = sorted(reserved.intersection(fields))
    if taken:
        raise RequestInvalid(f"These fields are the server's own: {', '.join(taken)}.")
    return {escape_key(name): to_document(value, str(name)) for name, value in fields.items() if name != skip}


async def _found(cursor: Any) -> list[dict[str, Any]]:
    with mongo_errors():
        documents = await cursor.to_list(None)
    return [document for document in map(_document, documents) if document is not None]


def _document(found: Any) -> dict[str, Any] | None:
    if found is None:
        return None
    document: dict[str, Any] = from_document(dict(found))
    return {"id": document.pop("_id"), **document}


def _outcome(error: BulkWriteError, count: int) -> InsertOutcome:
    """Tell records that were there already from those that cannot be stored; anything else is the store's trouble."""
    failed = _refused(error)
    duplicate = sum(1 for each in failed if each.get("code") == DUPLICATE_KEY)
    return InsertOutcome(written=count - len(failed), duplicate=duplicate, refused=len(failed) - duplicate)


def _refused(error: BulkWriteError) -> Sequence[Mapping[str, Any]]:
    """The writes of many that the store did not take, if all others are there to stay: else it is raised again."""
    details: Mapping[str, Any] = error.details or {}
    failed: Sequence[Mapping[str, Any]] = details.get("writeErrors", [])
    if details.get("writeConcernErrors") or not failed:
        raise error
    return failed


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
