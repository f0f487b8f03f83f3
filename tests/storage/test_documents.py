"""Documents in a real MongoDB, with both drivers."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import bson
import pytest

from gameserver.errors import LimitReached, NotFound, RequestInvalid
from gameserver.storage import MongoDocuments
from gameserver.storage.mongo_client import aggregate

AWKWARD = {"$where": "1", "a.b": {"$gt": ""}, "nul\x00": 2**64, 5: [1, (2, 3)], "bytes": b"\x00\xff", "none": None}
AWKWARD_BACK = AWKWARD | {5: [1, [2, 3]]}


async def test_a_match_is_created_and_merged(documents: MongoDocuments) -> None:
    """Fields given later are added; the creation time stays."""
    assert await documents.save_match({"id": "m1", "game": "arena", "summary": {"map": "dust"}})
    first = await documents.get_match("m1")
    assert await documents.save_match({"id": "m1", "game": "arena", "players": ["ann"]})
    second = await documents.get_match("m1")
    assert first is not None
    assert second is not None
    assert second["summary"] == {"map": "dust"}
    assert second["players"] == ["ann"]
    assert (second["id"], second["game"], second["status"]) == ("m1", "arena", "live")
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] >= first["updated_at"]


async def test_many_matches_are_saved_in_one_write(documents: MongoDocuments) -> None:
    """New ones, known ones, and those that have ended: they stay as they were."""
    await documents.save_match({"id": "known", "game": "arena", "players": 1})
    for ended in ("ended", "over"):
        assert await documents.match_ended(ended, reason="won")
    docs = [{"id": name, "game": "arena", "players": 2} for name in ("ended", "new", "known", "over", "newer")]
    assert await documents.save_matches(docs) == 3
    found = [await documents.get_match(doc["id"]) for doc in docs]
    assert [match and match["status"] for match in found] == ["ended", "live", "live", "ended", "live"]
    assert [match and match.get("players") for match in found] == [None, 2, 2, None, 2]
    assert await documents.save_matches(docs[1:3]) == 2
    assert await documents.save_matches([]) == 0
    with pytest.raises(RequestInvalid):
        await documents.save_matches([*docs, {"id": "nothing"}])


async def test_first_saves_that_meet_both_arrive(documents: MongoDocuments) -> None:
    docs = [{"id": f"m{number}", "game": "arena"} for number in range(20)]
    both = await asyncio.gather(
        documents.save_matches([doc | {"one": 1} for doc in docs]),
        documents.save_matches([doc | {"two": 2} for doc in docs]),
    )
    assert both == [20, 20]
    for doc in docs:
        match = await documents.get_match(doc["id"])
        assert match is not None
        assert (match["one"], match["two"]) == (1, 2)


async def test_author_fields_come_back_as_they_were(documents: MongoDocuments) -> None:
    """Keys that look like operators and paths, numbers beyond 64 bits, any nesting."""
    await documents.save_match({"id": "m1", "game": "arena", "summary": AWKWARD, "$set": 1, "x.y": 2})
    match = await documents.get_match("m1")
    assert match is not None
    assert match["summary"] == AWKWARD_BACK
    assert (match["$set"], match["x.y"]) == (1, 2)


@pytest.mark.parametrize("doc", [{"id": "m1"}, {"game": "arena"}, {"id": {"$gt": ""}, "game": "arena"}])
async def test_a_match_needs_id_and_game(documents: MongoDocuments, doc: dict[str, Any]) -> None:
    """As texts."""
    with pytest.raises(RequestInvalid):
        await documents.save_match(doc)


async def test_the_servers_own_fields_cannot_be_set(documents: MongoDocuments) -> None:
    """Times and ids are facts."""
    with pytest.raises(RequestInvalid, match="created_at"):
        await documents.save_match({"id": "m1", "game": "arena", "created_at": 0})
    with pytest.raises(RequestInvalid, match="profile_version"):
        await documents.upsert_player("ann", {"profile_version": 7})


async def test_an_ended_match_is_final(documents: MongoDocuments) -> None:
    """A late save changes nothing, and neither does ending it again."""
    await documents.save_match({"id": "m1", "game": "arena"})
    assert await documents.match_ended("m1", reason="won", fields={"winner": "ann"})
    assert not await documents.save_match({"id": "m1", "game": "arena", "winner": "bob"})
    assert not await documents.match_ended("m1", reason="crashed")
    match = await documents.get_match("m1")
    assert match is not None
    assert (match["status"], match["end_reason"], match["winner"]) == ("ended", "won", "ann")
    assert match["ended_at"].tzinfo is not None


async def test_a_match_that_was_never_saved_can_end(documents: MongoDocuments) -> None:
    """It may have been shorter than the interval of saving."""
    assert await documents.match_ended("m1", reason="won", fields={"game": "arena"})
    match = await documents.get_match("m1")
    assert match is not None
    assert match["game"] == "arena"


async def test_active_matches_are_live_and_recent(documents: MongoDocuments) -> None:
    """Latest first; ended and quiet ones are left out; by game; limited."""
    for name in ("m1", "m2", "m3", "old", "over"):
        await documents.save_match({"id": name, "game": "chess" if name == "m2" else "arena"})
        await asyncio.sleep(0.002)  # times are kept to the millisecond
    await documents.match_ended("over", reason="won")
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=6)
    await documents.database["matches"].update_one({"_id": "old"}, {"$set": {"updated_at": old}})
    assert [match["id"] for match in await documents.active_matches()] == ["m3", "m2", "m1"]
    assert [match["id"] for match in await documents.active_matches(minutes=10)][-1] == "old"
    assert [match["id"] for match in await documents.active_matches(game="chess")] == ["m2"]
    assert [match["id"] for match in await documents.active_matches(limit=1)] == ["m3"]


async def test_the_listing_uses_its_index(documents: MongoDocuments) -> None:
    """Made at start, and again without harm."""
    await documents.create_indexes()
    indexes = await documents.database["matches"].index_information()
    assert indexes["active"]["key"] == [("status", 1), ("updated_at", -1)]
    assert "game_active" in indexes


async def test_a_player_is_created_once(documents: MongoDocuments) -> None:
    """Concurrent first visits are one player; fields are merged."""
    await asyncio.gather(*(documents.upsert_player("ann", {f"field{n}": n}) for n in range(10)))
    player = await documents.get_player("ann")
    assert player is not None
    assert {player[f"field{n}"] for n in range(10)} == set(range(10))
    assert player["profile"] == {}
    assert await documents.get_player("bob") is None


async def test_a_profile_keeps_any_fields(documents: MongoDocuments) -> None:
    """Merged key by key; None removes."""
    await documents.upsert_player("ann", {"name": "Ann"})
    given = {key: value for key, value in AWKWARD_BACK.items() if value is not None}
    assert await documents.update_profile("ann", given) == given
    assert await documents.update_profile("ann", {"a.b": None, "new": {"deep": None}}) == {
        key: value for key, value in given.items() if key != "a.b"
    } | {"new": {"deep": None}}
    player = await documents.get_player("ann")
    assert player is not None
    assert player["name"] == "Ann"
    assert player["profile"]["new"] == {"deep": None}


async def test_concurrent_profile_updates_are_all_kept(documents: MongoDocuments) -> None:
    """Each changes its own key."""
    await documents.upsert_player("ann")
    await asyncio.gather(*(documents.update_profile("ann", {f"key{n}": n}) for n in range(8)))
    player = await documents.get_player("ann")
    assert player is not None
    assert player["profile"] == {f"key{n}": n for n in range(8)}


async def test_a_profile_has_a_limit(documents: MongoDocuments) -> None:
    """What was there stays."""
    await documents.upsert_player("ann")
    await documents.update_profile("ann", {"kept": 1})
    with pytest.raises(LimitReached):
        await documents.update_profile("ann", {"big": "x" * 70_000})
    player = await documents.get_player("ann")
    assert player is not None
    assert player["profile"] == {"kept": 1}


async def test_a_profile_belongs_to_a_player(documents: MongoDocuments) -> None:
    """Nobody is created by the way."""
    with pytest.raises(NotFound):
        await documents.update_profile("nobody", {"a": 1})


async def test_an_id_from_a_client_is_no_query(documents: MongoDocuments) -> None:
    """Ids are compared, never interpreted."""
    await documents.upsert_player("ann")
    assert await documents.get_player("$ne") is None
    assert await documents.get_match(".*") is None


async def test_records_are_told_apart(documents: MongoDocuments) -> None:
    """Written, there already, and not acceptable, in one call."""
    now = datetime.datetime.now(datetime.UTC)

    def encoded(key: str) -> bytes:
        return bson.encode({"_id": key, "kind": "score", "match": "m1", "at": now, "priority": 1, "data": {}})

    first = await documents.insert_records([encoded("a"), encoded("b")])
    again = await documents.insert_records([encoded("a"), encoded("c"), encoded("b")])
    assert (first.written, first.duplicate, first.refused) == (2, 0, 0)
    assert (again.written, again.duplicate, again.refused) == (1, 2, 0)
    assert len(await documents.records("m1")) == 3


async def test_writes_ask_for_a_majority(documents: MongoDocuments) -> None:
    """Said explicitly, whatever the server's default."""
    for name in ("matches", "players", "records"):
        assert documents.database[name].write_concern.document == {"w": "majority"}


async def test_aggregation_is_alike_in_both_drivers(documents: MongoDocuments) -> None:
    """One drivers' cursor must be awaited first; nobody outside should know."""
    await documents.save_match({"id": "m1", "game": "arena"})
    assert await aggregate(documents.database["matches"], [{"$count": "n"}]) == [{"n": 1}]
