"""What every `JournalStore` must do: subclass it, give it a `harness` fixture, and its tests run on yours."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import pytest

from gameserver.errors import (
    ClaimLost,
    JournalCorrupt,
    MatchEnded,
    MatchExists,
    MatchNotFound,
    MatchQuarantined,
    SnapshotTooNew,
)
from gameserver.storage import Append, JournalStore, NodeInfo, Outcome, SnapshotMeta, Token, encode_snapshot
from gameserver.storage.journal_ports import BASES_MAX

DONE, FENCED, GAP = Outcome.DONE, Outcome.FENCED, Outcome.GAP


class Harness(Protocol):
    """A store with a back door."""

    def journal(self) -> JournalStore:
        """The journal as another process has it."""

    async def wipe(self) -> None:
        """The store comes back empty."""

    async def keep(self) -> Any:
        """What the store holds of all matches now, for `rewind`."""

    async def rewind(self, kept: Any) -> None:
        """The store comes back with what it held then."""

    async def entries(self, match_id: str) -> dict[int, bytes]:
        """The journal's bytes by version."""

    async def put_entry(self, match_id: str, version: int, data: bytes | None) -> None:
        """Replace an entry's bytes, or take it out."""

    async def put_snapshot(self, match_id: str, data: bytes) -> None:
        """Replace the snapshot's bytes."""

    async def get_snapshot(self, match_id: str) -> bytes:
        """The snapshot's bytes."""

    async def keys(self, match_id: str) -> int:
        """How many things the store holds of this match, its tombstone included."""


def meta(version: int, epoch: int = 1) -> SnapshotMeta:
    return SnapshotMeta("arena", epoch, version, state_version=3)


def state(version: int) -> bytes:
    return encode_snapshot({"version": version})


async def created(journal: JournalStore, match_id: str = "m1", node: str = "n1", version: int = 0) -> Token:
    return await journal.create(match_id, node, meta=meta(version), snapshot=state(version))


async def extend(journal: JournalStore, token: Token, *versions: int) -> list[Outcome]:
    """One append for each step between these versions."""
    steps = pairwise(versions)
    return await journal.append([Append(token, base, version, b"to %d" % version) for base, version in steps])


class JournalContract:
    # --- a new match --------------------------------------------------------------------------------------------------
    async def test_a_created_match_can_be_recovered(self, harness: Harness) -> None:
        """Token, snapshot and index are there at once."""
        journal = harness.journal()
        token = await created(journal, version=7)
        assert (token.match_id, token.node, token.epoch, bool(token.store)) == ("m1", "n1", 1, True)
        recovered = await journal.recover("m1")
        assert (recovered.snapshot, recovered.meta) == ({"version": 7}, meta(7))
        assert (recovered.version, recovered.epoch, recovered.game) == (7, 1, "arena")
        assert (recovered.entries, recovered.earlier, recovered.base_versions) == ([], [], {1: 7})
        [owned] = await journal.owned()
        assert (owned.match_id, owned.node, owned.epoch, owned.game, owned.version) == ("m1", "n1", 1, "arena", 7)

    async def test_creating_may_be_repeated_by_who_did_it(self, harness: Harness) -> None:
        """By nobody else, not even with the same node id, and not with another snapshot."""
        journal = harness.journal()
        token = await created(journal)
        assert await created(journal) == token
        with pytest.raises(MatchExists):
            await created(harness.journal())
        with pytest.raises(MatchExists):
            await created(journal, version=1)
        with pytest.raises(MatchExists):
            await created(journal, node="n2")
        assert await extend(journal, token, 0, 1) == [DONE]

    async def test_a_node_has_a_name(self, harness: Harness) -> None:
        """The empty one stands for nobody."""
        journal = harness.journal()
        with pytest.raises(ValueError, match="not empty"):
            await created(journal, node="")
        await created(journal)
        with pytest.raises(ValueError, match="not empty"):
            await journal.claim("m1", "", expect_epoch=1)

    # --- appending ----------------------------------------------------------------------------------------------------
    async def test_entries_come_back_as_they_were(self, harness: Harness) -> None:
        """Ranges of versions, with what is said about them."""
        journal = harness.journal()
        token = await created(journal)
        payload = bytes(range(256)) * 20
        batch = [Append(token, 0, 1, b""), Append(token, 1, 5, payload, state_version=9, connected=4)]
        assert await journal.append(batch) == [DONE, DONE]
        recovered = await journal.recover("m1")
        assert [(entry.base, entry.version, entry.epoch) for entry in recovered.entries] == [(0, 1, 1), (1, 5, 1)]
        assert (recovered.entries[1].payload, recovered.entries[1].state_version) == (payload, 9)
        assert recovered.version == 5
        [owned] = await journal.owned()
        assert (owned.version, owned.connected) == (5, 4)

    async def test_nothing_is_appended_by_an_empty_batch(self, harness: Harness) -> None:
        assert await harness.journal().append([]) == []

    async def test_a_repeated_append_is_done_once(self, harness: Harness) -> None:
        """Also when it is not the last one any more; what was stored first stays."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1, 2, 5)
        before = await harness.entries("m1")
        assert await extend(journal, token, 0, 1, 2, 5) == [DONE, DONE, DONE]
        assert await journal.append([Append(token, 1, 2, b"something else")]) == [DONE]
        assert await harness.entries("m1") == before
        assert list(before) == [1, 2, 5]

    async def test_a_gap_is_refused(self, harness: Harness) -> None:
        """Nothing of it is stored, and what follows it in the batch finds the same gap."""
        journal = harness.journal()
        token = await created(journal)
        assert await extend(journal, token, 1, 2, 3) == [GAP, GAP]
        assert await harness.entries("m1") == {}
        assert await extend(journal, token, 0, 1, 2, 3) == [DONE, DONE, DONE]

    async def test_an_overlap_is_of_the_same_hand(self, harness: Harness) -> None:
        """What a snapshot ran ahead of, or a bigger second try, may begin before what is stored."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 3)
        assert await extend(journal, token, 1, 6) == [DONE]
        recovered = await journal.recover("m1")
        assert [(entry.base, entry.version) for entry in recovered.entries] == [(0, 3), (1, 6)]

    async def test_a_new_owner_cannot_write_over_the_old_ones_versions(self, harness: Harness) -> None:
        """One that recovered too little must not be told that its work is stored."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 10)
        claimed = await journal.claim("m1", "n2", expect_epoch=1)
        assert claimed.version == 10
        assert await extend(journal, claimed.token, 5, 8) == [GAP]
        assert await extend(journal, claimed.token, 9, 11) == [GAP]
        assert await journal.save(claimed.token, 8, meta(8), state(8)) == GAP
        assert await extend(journal, claimed.token, 10, 11) == [DONE]

    async def test_versions_are_numbers(self, harness: Harness) -> None:
        """9 comes before 10, and 2**40 is not rounded."""
        journal = harness.journal()
        big = 2**40
        token = await created(journal, version=8)
        assert await extend(journal, token, 8, 9, 10, 11, big, big + 1) == [DONE] * 5
        assert await extend(journal, token, 9, 10) == [DONE]
        assert (await journal.recover("m1")).version == big + 1

    async def test_many_matches_go_in_one_call(self, harness: Harness) -> None:
        """Each with its own outcome, in the order of the batch."""
        journal = harness.journal()
        tokens = [await created(journal, f"match-{number}") for number in range(300)]
        batch = [Append(token, 0, 1, token.match_id.encode()) for token in tokens]
        batch[17] = Append(tokens[17], 3, 4, b"after a gap")
        batch[200] = Append(replace(tokens[200], epoch=2), 0, 1, b"of another epoch")
        batch.insert(40, Append(tokens[250], 0, 1, b"first"))
        outcomes = await journal.append(batch)
        assert outcomes[17] == GAP
        assert outcomes[201] == FENCED
        assert [outcomes.count(kind) for kind in (DONE, GAP, FENCED)] == [299, 1, 1]
        assert (await journal.recover("match-7")).entries[0].payload == b"match-7"
        assert (await journal.recover("match-250")).entries[0].payload == b"first"
        assert len(await journal.owned()) == 300

    # --- fencing ------------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize(
        "wrong", [{"epoch": 2}, {"epoch": 0}, {"node": "n2"}, {"store": "other"}, {"match_id": "m2"}]
    )
    async def test_each_part_of_a_token_counts(self, harness: Harness, wrong: dict[str, Any]) -> None:
        """For every write."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1)
        other = replace(token, **wrong)
        assert await extend(journal, other, 1, 2) == [FENCED]
        assert await journal.save(other, 1, meta(1), state(1)) == FENCED
        assert await journal.release(other) == FENCED
        assert await journal.end(other) == FENCED
        assert await journal.note_suspect(other, "slow") == FENCED
        assert await journal.clear_suspect(other) == FENCED
        assert (await journal.find(["m1"]))[0] == (await journal.owned())[0]
        assert await extend(journal, token, 1, 2) == [DONE]

    async def test_a_claim_fences_the_owner_before_it(self, harness: Harness) -> None:
        """Whatever it sends, also what it had sent before."""
        journal, other = harness.journal(), harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 3)
        claimed = await other.claim("m1", "n2", expect_epoch=1)
        assert claimed.token.epoch > 1
        assert (claimed.token.node, claimed.version, claimed.attempts) == ("n2", 3, 1)
        assert await extend(journal, token, 3, 4) == [FENCED]
        assert await extend(journal, token, 0, 3) == [FENCED]
        assert await journal.save(token, 3, meta(3), state(3)) == FENCED
        assert await journal.end(token) == FENCED
        assert await extend(other, claimed.token, 3, 4) == [DONE]
        recovered = await other.recover("m1")
        assert [entry.epoch for entry in recovered.entries] == [1, claimed.token.epoch]
        assert recovered.base_versions == {1: 0, claimed.token.epoch: 3}

    async def test_one_of_many_claims_wins(self, harness: Harness) -> None:
        """The others are told who did, and only the winner writes."""
        token = await created(harness.journal())
        await extend(harness.journal(), token, 0, 1)
        nodes = {f"n{number}": harness.journal() for number in range(2, 12)}
        answers = await asyncio.gather(
            *(journal.claim("m1", node, expect_epoch=1) for node, journal in nodes.items()), return_exceptions=True
        )
        won = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(won) == 1
        assert sum(isinstance(answer, ClaimLost) for answer in answers) == 9
        tokens = [replace(won[0].token, node=node) for node in nodes]
        outcomes = await asyncio.gather(*(extend(nodes[one.node], one, 1, 2) for one in tokens))
        assert sorted(outcome for [outcome] in outcomes) == [DONE] + [FENCED] * 9

    async def test_appends_that_race_with_claims_make_one_history(self, harness: Harness) -> None:
        """Owner after owner goes on from what the last one was told to be stored."""
        first = harness.journal()
        await created(first)
        told: list[tuple[int, bytes]] = []
        going_on = True

        async def own(node: str) -> None:
            journal = harness.journal()
            while going_on:
                [held] = await journal.find(["m1"])
                assert held is not None
                try:
                    claimed = await journal.claim("m1", node, expect_epoch=held.epoch)
                except ClaimLost:
                    continue
                version = claimed.version
                while True:
                    payload = f"{node} {claimed.token.epoch} {version + 1}".encode()
                    [outcome] = await journal.append([Append(claimed.token, version, version + 1, payload)])
                    if outcome is not DONE:
                        assert outcome is FENCED
                        break
                    version += 1
                    told.append((version, payload))
                    if version % 7 == 0:
                        break
                    await asyncio.sleep(0)

        owners = [asyncio.create_task(own(f"n{number}")) for number in range(4)]
        while len(told) < 150 and not any(owner.done() for owner in owners):
            await asyncio.sleep(0.001)
        going_on = False
        await asyncio.gather(*owners)
        recovered = await first.recover("m1")
        # What was stored and not told (the last one of a fenced owner never is) would show as a version more.
        told.sort()
        assert [(entry.version, entry.payload) for entry in recovered.entries] == told
        assert [version for version, _ in told] == list(range(1, len(told) + 1))

    async def test_a_claim_may_be_repeated_by_who_did_it(self, harness: Harness) -> None:
        """The attempt counts once; a process of the same name is another one."""
        journal = harness.journal()
        await created(journal)
        claimed = await journal.claim("m1", "n2", expect_epoch=1)
        assert await journal.claim("m1", "n2", expect_epoch=1) == claimed
        epoch = claimed.token.epoch
        with pytest.raises(ClaimLost, match=f"epoch {epoch}, owned by n2"):
            await harness.journal().claim("m1", "n2", expect_epoch=1)
        with pytest.raises(ClaimLost):
            await journal.claim("m1", "n2", expect_epoch=0)
        with pytest.raises(ClaimLost):
            await journal.claim("m1", "n2", expect_epoch=epoch + 1)
        await self.pass_time(0.001)
        again = await journal.claim("m1", "n2", expect_epoch=epoch)
        assert (again.token.epoch > epoch, again.attempts) == (True, 2)

    async def test_the_last_base_versions_are_kept(self, harness: Harness) -> None:
        """So that a client of an old epoch is told whether its history is ours."""
        journal = harness.journal()
        token = await created(journal)
        bases = {token.epoch: 0}
        for version in range(0, 40, 2):
            await extend(journal, token, version, version + 2)
            token = (await journal.claim("m1", f"n{version}", expect_epoch=token.epoch)).token
            bases[token.epoch] = version + 2
        recovered = await journal.recover("m1")
        assert recovered.base_versions == dict(list(bases.items())[-BASES_MAX:])
        assert len(bases) == 21
        assert recovered.epoch == token.epoch

    async def test_what_is_not_there_cannot_be_claimed(self, harness: Harness) -> None:
        journal = harness.journal()
        with pytest.raises(MatchNotFound):
            await journal.claim("nobody", "n1", expect_epoch=0)
        with pytest.raises(MatchNotFound):
            await journal.recover("nobody")
        assert await journal.find(["nobody"]) == [None]
        assert await journal.find([]) == []
        assert await journal.quarantine("nobody", "because") is None

    # --- snapshots ----------------------------------------------------------------------------------------------------
    async def test_a_snapshot_trims_the_journal(self, harness: Harness) -> None:
        """Up to where it is told; what stays from before is for those who resume."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 2, 4, 6, 8)
        assert await journal.save(token, 6, meta(6), state(6), keep_after=3) == DONE
        recovered = await journal.recover("m1")
        assert recovered.snapshot == {"version": 6}
        assert [entry.version for entry in recovered.entries] == [8]
        assert [entry.version for entry in recovered.earlier] == [4, 6]
        assert (recovered.version, recovered.meta.version) == (8, 6)
        assert await journal.save(token, 8, meta(8), state(8)) == DONE
        assert await harness.entries("m1") == {}
        assert await extend(journal, token, 8, 9) == [DONE]
        assert await extend(journal, token, 4, 6) == [DONE], "appended before, trimmed since"

    async def test_a_snapshot_within_an_entry(self, harness: Harness) -> None:
        """The entry stays: its later part is needed."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 2, 6)
        assert await journal.save(token, 4, meta(4), state(4)) == DONE
        recovered = await journal.recover("m1")
        assert [(entry.base, entry.version) for entry in recovered.entries] == [(2, 6)]
        assert (recovered.snapshot, recovered.version) == ({"version": 4}, 6)

    async def test_keeping_after_the_snapshot_is_no_gap(self, harness: Harness) -> None:
        """Nothing that the snapshot does not hold is dropped, whatever is asked."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 2, 4)
        assert await journal.save(token, 2, meta(2), state(2), keep_after=4) == DONE
        assert [entry.version for entry in (await journal.recover("m1")).entries] == [4]

    async def test_a_late_snapshot_is_ignored(self, harness: Harness) -> None:
        """It was under way while a later one was written."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 2, 4)
        assert await journal.save(token, 4, meta(4), state(4), keep_after=2) == DONE
        assert await journal.save(token, 2, meta(2), state(2)) == DONE
        recovered = await journal.recover("m1")
        assert (recovered.snapshot, recovered.version) == ({"version": 4}, 4)
        assert [entry.version for entry in recovered.earlier] == [4]
        assert await journal.save(token, 4, meta(4), state(4), keep_after=2) == DONE
        assert await journal.recover("m1") == recovered

    async def test_a_snapshot_may_run_ahead(self, harness: Harness) -> None:
        """For matches without a journal, and to close a gap; an append that was under way still fits."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 2)
        assert await journal.save(token, 10, meta(10), state(10), keep_after=0) == DONE
        recovered = await journal.recover("m1")
        assert (recovered.version, recovered.entries, recovered.earlier) == (10, [], [])
        assert await extend(journal, token, 2, 9) == [DONE]
        assert await extend(journal, token, 2, 12) == [DONE]
        recovered = await journal.recover("m1")
        assert [(entry.base, entry.version) for entry in recovered.entries] == [(2, 12)]

    async def test_attempts_are_counted_until_a_snapshot(self, harness: Harness) -> None:
        """A match that takes down each node that claims it is recognised by them."""
        journal = harness.journal()
        token = await created(journal)
        for attempt in (1, 2, 3):
            claimed = await journal.claim("m1", "n2", expect_epoch=token.epoch)
            assert claimed.attempts == attempt
            token = claimed.token
        assert (await journal.recover("m1")).attempts == 3
        assert (await journal.owned())[0].attempts == 3
        assert await journal.save(token, 0, meta(0), state(0)) == DONE
        assert (await journal.claim("m1", "n2", expect_epoch=token.epoch)).attempts == 1

    async def test_suspects_are_counted_once_per_epoch(self, harness: Harness) -> None:
        """Snapshots do not clear them: the match may run for a while before it hangs."""
        journal = harness.journal()
        token = await created(journal)
        for count in (1, 2):
            assert await journal.note_suspect(token, "tick") == DONE
            assert await journal.note_suspect(token, "tick") == DONE
            assert await journal.save(token, 0, meta(0), state(0)) == DONE
            claimed = await journal.claim("m1", "n2", expect_epoch=token.epoch)
            assert claimed.suspects == count
            token = claimed.token
        assert (await journal.owned())[0].suspects == 2
        assert await journal.clear_suspect(token) == DONE
        assert (await journal.owned())[0].suspects == 0
        assert await journal.note_suspect(token, "tick") == DONE
        assert (await journal.owned())[0].suspects == 1

    # --- letting go ---------------------------------------------------------------------------------------------------
    async def test_a_released_match_waits_for_a_claim(self, harness: Harness) -> None:
        """Its epoch stays, so the next one is higher."""
        journal = harness.journal()
        token = await created(journal)
        await journal.append([Append(token, 0, 1, b"", connected=9)])
        assert await journal.release(token) == DONE
        assert await journal.release(token) == DONE
        assert await extend(journal, token, 1, 2) == [FENCED]
        [owned] = await journal.owned()
        assert (owned.node, owned.epoch, owned.connected, owned.asleep) == ("", 1, 0, False)
        claimed = await journal.claim("m1", "n2", expect_epoch=1)
        assert claimed.token.epoch > 1
        assert await journal.release(token) == FENCED

    async def test_a_sleeping_match_is_left_alone(self, harness: Harness) -> None:
        """Until it is due, or somebody joins it."""
        journal = harness.journal()
        dues = {"soon": 1_000, "later": 2_000, "never": None}
        for name, due_ms in dues.items():
            assert await journal.release(await created(journal, name), asleep=True, due_ms=due_ms) == DONE
        await created(journal, "awake")
        assert [owned.match_id for owned in await journal.owned()] == ["awake"]
        assert await journal.due(999) == []
        assert await journal.due(1_000) == ["soon"]
        assert await journal.due(5_000) == ["soon", "later"]
        assert await journal.due(5_000, limit=1) == ["soon"]
        [soon, never] = await journal.find(["soon", "never"])
        assert soon is not None
        assert never is not None
        assert (soon.asleep, soon.due_ms, soon.node) == (True, 1_000, "")
        assert (never.asleep, never.due_ms) == (True, None)
        await journal.claim("soon", "n2", expect_epoch=1)
        assert await journal.due(5_000) == ["later"]
        [awake] = await journal.find(["soon"])
        assert awake is not None
        assert (awake.asleep, awake.due_ms, awake.node) == (False, None, "n2")
        assert sorted(owned.match_id for owned in await journal.owned()) == ["awake", "soon"]
        assert (await journal.recover("later")).version == 0

    async def test_a_match_that_ended_leaves_a_tombstone(self, harness: Harness) -> None:
        """Nothing brings it back: no late write, no claim, no new match of its id."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1)
        assert await journal.end(token) == DONE
        assert await journal.end(token) == DONE
        assert await harness.keys("m1") == 1
        assert await journal.owned() == []
        assert await journal.find(["m1"]) == [None]
        assert await extend(journal, token, 0, 1) == [FENCED]
        assert await journal.save(token, 1, meta(1), state(1)) == FENCED
        assert await journal.release(token) == FENCED
        assert await journal.quarantine("m1", "because") is None
        with pytest.raises(MatchExists):
            await created(journal)
        with pytest.raises(MatchEnded):
            await journal.claim("m1", "n2", expect_epoch=1)
        with pytest.raises(MatchEnded):
            await journal.recover("m1")
        with pytest.raises(MatchEnded):
            await journal.reassert(token, meta=meta(9), snapshot=state(9))

    async def test_a_sleeping_match_that_is_claimed_can_end(self, harness: Harness) -> None:
        journal = harness.journal()
        await journal.release(await created(journal), asleep=True, due_ms=5)
        claimed = await journal.claim("m1", "n1", expect_epoch=1)
        assert await journal.end(claimed.token) == DONE
        assert await journal.due(10) == []

    # --- damage -------------------------------------------------------------------------------------------------------
    async def _is_quarantined(self, journal: JournalStore, token: Token, problem: str) -> None:
        with pytest.raises(JournalCorrupt, match=problem):
            await journal.recover("m1")
        with pytest.raises(MatchQuarantined):
            await journal.recover("m1")
        with pytest.raises(MatchQuarantined):
            await journal.claim("m1", "n2", expect_epoch=token.epoch)
        with pytest.raises(MatchExists):
            await created(journal)
        assert await extend(journal, token, 5, 6) == [FENCED]
        assert await journal.owned() == []
        moved_to = await journal.quarantine("m1", "again")
        assert moved_to
        assert await journal.quarantine("m1", "and again") == moved_to

    @pytest.mark.parametrize("damage", ["flip", "cut", "empty", "magic", "swap", "move"])
    async def test_a_damaged_entry_is_never_passed_over(self, harness: Harness, damage: str) -> None:
        """Wrong bytes, and right bytes in a wrong place."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1, 3, 5)
        data = (await harness.entries("m1"))[3]
        damaged = {
            "flip": data[:-1] + bytes([data[-1] ^ 1]),
            "cut": data[:-1],
            "empty": b"",
            "magic": b"XXX" + data[3:],
            "swap": (await harness.entries("m1"))[1],
            "move": data[:16] + (2).to_bytes(8, "big") + data[24:],
        }[damage]
        await harness.put_entry("m1", 3, damaged)
        await self._is_quarantined(journal, token, "journal entry")

    @pytest.mark.parametrize("missing", [1, 3, 5])
    async def test_a_gap_in_the_journal_is_never_passed_over(self, harness: Harness, missing: int) -> None:
        """The first, one in the middle, the last."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1, 3, 5)
        await harness.put_entry("m1", missing, None)
        await self._is_quarantined(journal, token, "journal has nothing|journal ends")

    async def test_a_damaged_snapshot_is_never_started_blank(self, harness: Harness) -> None:
        journal = harness.journal()
        token = await created(journal)
        data = await harness.get_snapshot("m1")
        await harness.put_snapshot("m1", data[:-1] + b"\xff")
        await self._is_quarantined(journal, token, "checksum")

    async def test_a_newer_format_is_left_to_a_newer_server(self, harness: Harness) -> None:
        """Of the snapshot and of an entry."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1)
        data, entry = await harness.get_snapshot("m1"), (await harness.entries("m1"))[1]
        await harness.put_snapshot("m1", data[:3] + b"\x63" + data[4:])
        with pytest.raises(SnapshotTooNew):
            await journal.recover("m1")
        await harness.put_snapshot("m1", data)
        await harness.put_entry("m1", 1, entry[:3] + b"\x63" + entry[4:])
        with pytest.raises(SnapshotTooNew):
            await journal.recover("m1")
        await harness.put_entry("m1", 1, entry)
        assert (await journal.recover("m1")).version == 1

    async def test_a_gap_before_the_snapshot_only_shortens_the_resume_window(self, harness: Harness) -> None:
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1, 2, 3, 4)
        await journal.save(token, 3, meta(3), state(3), keep_after=0)
        await harness.put_entry("m1", 2, None)
        recovered = await journal.recover("m1")
        assert [entry.version for entry in recovered.earlier] == [3]
        assert [entry.version for entry in recovered.entries] == [4]

    async def test_quarantine_is_for_the_epoch_that_was_looked_at(self, harness: Harness) -> None:
        """Somebody else claimed it meanwhile, and may have put it right."""
        journal = harness.journal()
        await created(journal)
        claimed = await journal.claim("m1", "n2", expect_epoch=1)
        assert await journal.quarantine("m1", "because", expect_epoch=1) is None
        assert await extend(journal, claimed.token, 0, 1) == [DONE]
        assert await journal.quarantine("m1", "because", expect_epoch=claimed.token.epoch)
        assert await extend(journal, claimed.token, 1, 2) == [FENCED]

    # --- a store that lost something ----------------------------------------------------------------------------------
    async def test_a_store_tells_who_it_is(self, harness: Harness) -> None:
        """The same to everybody."""
        identity = await harness.journal().identity()
        assert await harness.journal().identity() == identity
        assert identity.known_seconds > 1000, "nothing was there before that could be lost"
        await harness.wipe()
        again = await harness.journal().identity()
        assert again.epoch != identity.epoch

    async def test_an_emptied_store_fences_old_tokens(self, harness: Harness) -> None:
        """Also when the same node makes the same match again, and numbers begin anew."""
        journal = harness.journal()
        token = await created(journal)
        await harness.wipe()
        assert await extend(journal, token, 0, 1) == [FENCED]
        assert await journal.save(token, 1, meta(1), state(1)) == FENCED
        again = await created(journal)
        assert (again.epoch, again.node) == (token.epoch, token.node)
        assert again.store != token.store
        assert await extend(journal, token, 0, 1) == [FENCED]
        assert await journal.end(token) == FENCED
        assert await extend(journal, again, 0, 1) == [DONE]

    async def test_an_owner_puts_its_match_back(self, harness: Harness) -> None:
        """Under the next epoch, from its own snapshot; may be repeated."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1, 2)
        await harness.wipe()
        back = await journal.reassert(token, meta=meta(2), snapshot=state(2), base_versions={1: 0})
        assert (back.epoch, back.node) == (2, "n1")
        assert await journal.reassert(token, meta=meta(2), snapshot=state(2), base_versions={1: 0}) == back
        assert await extend(journal, back, 2, 3) == [DONE]
        recovered = await journal.recover("m1")
        assert (recovered.snapshot, recovered.version, recovered.base_versions) == ({"version": 2}, 3, {1: 0, 2: 2})
        assert len(await journal.owned()) == 1

    async def test_a_rewound_store_shows_a_gap_and_takes_the_match_back(self, harness: Harness) -> None:
        """The same owner, who went on after what the store has now."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1)
        kept = await harness.keep()
        await extend(journal, token, 1, 2, 3)
        await harness.rewind(kept)
        assert await extend(journal, token, 3, 4) == [GAP]
        back = await journal.reassert(token, meta=meta(3), snapshot=state(3))
        assert await extend(journal, token, 1, 2) == [FENCED]
        assert await extend(journal, back, 3, 4) == [DONE]
        assert (await journal.recover("m1")).version == 4

    async def test_the_later_position_wins_in_a_rewound_store(self, harness: Harness) -> None:
        """An owner of an earlier epoch finds its token valid again, until the real one is back."""
        old, new = harness.journal(), harness.journal()
        token = await created(old)
        await extend(old, token, 0, 1, 2, 3)
        kept = await harness.keep()
        claimed = await new.claim("m1", "n2", expect_epoch=1)
        await harness.rewind(kept)
        assert await extend(old, token, 3, 50) == [DONE]
        back = await new.reassert(claimed.token, meta=meta(5), snapshot=state(5))
        assert back.epoch == claimed.token.epoch + 1
        assert await extend(old, token, 50, 51) == [FENCED]
        with pytest.raises(ClaimLost):
            await old.reassert(token, meta=meta(50), snapshot=state(50))
        recovered = await new.recover("m1")
        assert (recovered.version, recovered.snapshot, recovered.entries) == (5, {"version": 5}, [])
        assert await extend(new, back, 5, 6) == [DONE]

    async def test_no_epoch_comes_again_when_it_was_forgotten(self, harness: Harness) -> None:
        """Its owner is dead, too: who claims what is left goes on under a later one, again and again."""
        token = await created(harness.journal())
        kept = await harness.keep()
        claimed = (await harness.journal().claim("m1", "n2", expect_epoch=1)).token
        epochs = [token.epoch, claimed.epoch]
        for node in ("n3", "n4"):
            await harness.rewind(kept)
            await self.pass_time(0.001)
            epochs.append((await harness.journal().claim("m1", node, expect_epoch=1)).token.epoch)
        assert epochs == sorted(set(epochs))

    async def test_who_was_owner_later_stays_so(self, harness: Harness) -> None:
        """An owner of before has put back what it had, before the real one came to do so."""
        old, new = harness.journal(), harness.journal()
        token = await created(old)
        kept = await harness.keep()
        claimed = await new.claim("m1", "n2", expect_epoch=1)
        await harness.rewind(kept)
        await self.pass_time(0.001)
        stale = await old.reassert(token, meta=meta(50), snapshot=state(50))
        back = await new.reassert(claimed.token, meta=meta(5), snapshot=state(5))
        assert stale.epoch < claimed.token.epoch < back.epoch
        with pytest.raises(ClaimLost):
            await old.reassert(stale, meta=meta(60), snapshot=state(60))
        assert (await new.recover("m1")).snapshot == {"version": 5}

    async def test_putting_back_may_be_repeated_with_what_happened_since(self, harness: Harness) -> None:
        """The answer was lost and the match went on: the store has what it is told last, and nothing older again."""
        journal = harness.journal()
        token = await created(journal)
        await harness.wipe()
        first = await journal.reassert(token, meta=meta(2), snapshot=state(2))
        back = await journal.reassert(token, meta=meta(4), snapshot=state(4))
        assert back.epoch == first.epoch
        assert (await journal.recover("m1")).snapshot == {"version": 4}
        assert await extend(journal, back, 4, 5) == [DONE]
        assert await journal.reassert(token, meta=meta(2), snapshot=state(2)) == back
        assert (await journal.recover("m1")).version == 5

    async def test_an_owner_may_put_back_what_was_not_lost(self, harness: Harness) -> None:
        """It need not find out first; what it had under way is fenced by it."""
        journal = harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 1)
        back = await journal.reassert(token, meta=meta(1), snapshot=state(1))
        assert await extend(journal, token, 1, 2) == [FENCED]
        assert await extend(journal, back, 1, 2) == [DONE]
        assert (await journal.recover("m1")).version == 2

    async def test_of_two_at_the_same_position_the_stored_one_stays(self, harness: Harness) -> None:
        """Two nodes cannot both go on from there."""
        journal, other = harness.journal(), harness.journal()
        token = await created(journal)
        await extend(journal, token, 0, 4)
        rival = replace(token, node="n2")
        for version in (3, 4):
            with pytest.raises(ClaimLost):
                await other.reassert(rival, meta=meta(version), snapshot=state(version))
        won = await other.reassert(rival, meta=meta(5), snapshot=state(5))
        assert (won.node, won.epoch) == ("n2", 2)
        assert await extend(journal, token, 4, 5) == [FENCED]

    async def test_a_quarantined_match_is_not_put_back(self, harness: Harness) -> None:
        journal = harness.journal()
        token = await created(journal)
        await journal.quarantine("m1", "because")
        with pytest.raises(MatchQuarantined):
            await journal.reassert(token, meta=meta(9), snapshot=state(9))

    # --- leases -------------------------------------------------------------------------------------------------------
    async def test_a_node_lives_while_it_renews(self, harness: Harness) -> None:
        """And says about itself what it likes."""
        journal = harness.journal()
        first = NodeInfo("n1", "10.0.0.1:8000", ("owner", "edge"), ("arena",), matches=3, started=1.25)
        second = NodeInfo("n2", "10.0.0.2:8000", ("edge",), started=2.5, draining=True)
        assert await journal.nodes() == []
        assert await journal.renew(second, 60_000)
        assert await journal.renew(first, 60_000)
        assert await harness.journal().nodes() == [first, second]
        changed = replace(first, matches=4)
        assert await journal.renew(changed, 60_000)
        assert await journal.nodes() == [changed, second]
        await journal.retire("n2")
        assert await journal.nodes() == [changed]
        assert await journal.renew(replace(second, started=9.0), 60_000)

    async def test_a_node_id_belongs_to_one_process(self, harness: Harness) -> None:
        """Two of one name would both believe to be the owner."""
        journal = harness.journal()
        assert await journal.renew(NodeInfo("n1", "a", started=1.0), 60_000)
        assert not await harness.journal().renew(NodeInfo("n1", "b", started=2.0), 60_000)
        assert [node.address for node in await journal.nodes()] == ["a"]

    async def test_a_lease_runs_out(self, harness: Harness) -> None:
        """Its id is free then."""
        journal = harness.journal()
        assert await journal.renew(NodeInfo("n1", "a", started=1.0), 60)
        await self.pass_time(0.1)
        assert await journal.nodes() == []
        assert await journal.renew(NodeInfo("n1", "b", started=2.0), 60_000)

    async def pass_time(self, seconds: float) -> None:
        """Override for a store with a clock of its own."""
        await asyncio.sleep(seconds)
