"""Which safeguard, where it stands, what stands there without it, and which tests must notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One place in the package."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


SEEDS = "tests/simulation/test_seeds.py"
CROSSING = "tests/simulation/test_crossing.py"
JOURNAL = "tests/storage/test_journal.py"
CORE = "tests/client/test_client_core.py"
RECORDS = "tests/web/test_records_away.py"

MUTATIONS = (
    Mutation(
        "an append of another epoch is refused",
        "storage/lua/append.lua", "held[1] ~= node or held[2] ~= epoch or", "held[1] ~= node or", (JOURNAL,),
    ),
    Mutation(
        "an append follows the stored version",
        "storage/lua/append.lua", "elseif base < first or base > stored then", "elseif base < first then", (JOURNAL,),
    ),
    Mutation(
        "no epoch comes again when it was forgotten",
        "storage/lua/claim.lua", "now[1] * 1000000 + now[2])", "0)", (JOURNAL,),
    ),
    Mutation(
        "a snapshot trims no more than it holds",
        "storage/redis_journal.py",
        "first_kept = min(version if keep_after is None else keep_after, version) + 1",
        "first_kept = version + 1_000",
        (JOURNAL,),
    ),
    Mutation(
        "answers wait for the journal",
        "cluster/gate.py", "return not (self._strict or is_gated(output)) or", "return True or", (SEEDS,),
    ),
    Mutation(
        "an action that was seen is not done again",
        "match/inbox.py",
        "            self._repeat(session, seq, crc, quiet)\n            return\n",
        "            assert seq <= session.received\n            session.received = seq - 1\n",
        ("tests/match/test_numbering.py",),
    ),
    Mutation(
        "… nor after a crash",
        "match/journal.py",
        "    session.received = max(session.received, seq)\n",
        "    session.applied, session.received = seq - 1, seq - 1\n",
        (SEEDS,),
    ),
    Mutation(
        "a connection that does not read is aborted",
        "cluster/fanout.py",
        "        member.receiver.abort(close_code_of(SlowConsumer), reason)\n",
        "        close_code_of(SlowConsumer)\n",
        ("tests/cluster/test_host.py", "tests/web/test_slow_consumers.py"),
    ),
    Mutation(
        "without a lease nothing is committed or sent",
        "cluster/hosted_output.py", "if self.closed or not self._services.valid():", "if self.closed:",
        ("tests/cluster/test_host.py", SEEDS),
    ),
    Mutation(
        "what the gate lets go is not sent without a lease",
        "cluster/hosted_output.py",
        "        if not self._services.valid():\n            return\n        self._waiting.popleft()\n",
        "        self._waiting.popleft()\n",
        ("tests/cluster/test_host.py", SEEDS),
    ),
    Mutation(
        "a match is claimed before it is read",
        "cluster/takeover.py",
        "            claimed = await self._claim(match)\n"
        "            recovered = await self._repeated(lambda: self._store.recover(match.match_id))\n",
        "            recovered = await self._repeated(lambda: self._store.recover(match.match_id))\n"
        "            claimed = await self._claim(match)\n",
        ("tests/cluster/test_takeover.py",),
    ),
    Mutation(
        "a client drops what is older than what it has",
        "client/room_core.py", "        if position <= self.position:\n            return []\n        parts =",
        "        if frame.version <= self.version:\n            return []\n        parts =", (CORE,),
    ),
    Mutation(
        "a client drops urgent events that it has heard",
        "client/room_core.py", "if position <= self._events_position:", "if False:", (CORE,),
    ),
    Mutation(
        "owner_only fields are for their owner",
        "state/tree.py", """            return scope | {f"player:{parent._owner}"}""", "            return scope",
        ("tests/state", SEEDS),
    ),
    Mutation(
        "server_only fields are for nobody",
        "state/tree.py", "if where.visibility is Visibility.SERVER or parent._owner is None",
        "if parent._owner is None", ("tests/state",),
    ),
    Mutation(
        "a snapshot has the checksum it was written with",
        "storage/codec.py", "    if zlib.crc32(body) != checksum:", "    if False:", ("tests/storage/test_codec.py",),
    ),
    Mutation(
        "a journal entry has the checksum it was written with",
        "storage/journal_codec.py",
        "    if zlib.crc32(payload, zlib.crc32(data[: _PLACE.size])) != checksum:", "    if False:",
        ("tests/storage/test_journal.py",),
    ),
    Mutation(
        "who saw versions that were lost gets a full state",
        "session/resume.py",
        "lambda it: it.epoch < it.match_epoch and it.version > it.base_version)", "lambda it: False)",
        ("tests/session",),
    ),
    Mutation(
        "who comes from an earlier epoch gets a full state",
        "session/resume.py",
        "Row(Reason.EARLIER_EPOCH, Answer.FULL,", "Row(Reason.EARLIER_EPOCH, Answer.TAIL,", ("tests/session",),
    ),
    Mutation(
        "an edge sees by the numbers what it has missed",
        "cluster/carried.py",
        "gap = message.serial != self.serial + 1 or (needed is not None and private is None)", "gap = False",
        (CROSSING,),
    ),
    Mutation(
        "an edge keeps an action until it has an outcome",
        "cluster/carried.py", "            seat.keep(Kept(seq, name, args, quiet, crc), self._clock.now())\n",
        "            Kept(seq, name, args, quiet, crc)\n", (CROSSING,),
    ),
    Mutation(
        "what was settled and is lost has the client join again",
        "cluster/carried.py", "if seat.members and received < seat.settled:", "if False:", (CROSSING,),
    ),
    Mutation(
        "a match is never here under two epochs",
        "cluster/matches.py", "            before.fenced()\n", "            assert not before.match.ended\n",
        ("tests/cluster/test_handover.py",),
    ),
    Mutation(
        "a match that was dropped while it was let go of is not let go of again",
        "cluster/handover.py", "        while hosted.leaving:\n", "        while True:\n",
        ("tests/cluster/test_handover.py",),
    ),
    Mutation(
        "what is here still, and let go of, is not claimed",
        "cluster/choice.py", "return None if here.keeps(match.match_id) else Reason.RELEASED", "return Reason.RELEASED",
        ("tests/cluster/test_takeover.py",),
    ),
    Mutation(
        "a client closes its sockets itself",
        "client/link.py", "            self._release()\n            on_end(", "            on_end(",
        ("tests/client/test_client_failures.py",),
    ),
    Mutation(
        "a list is put back as it was when an action fails",
        "state/containers.py", "        self._items[start : start + len(entry[3])] = removed\n",
        "        self._items[start : start + len(removed)] = removed\n",
        ("tests/state", "tests/match/test_failures.py"),
    ),
    Mutation(
        "what is refused while its match is looked into is looked into again",
        "cluster/reassert.py", "            self._suspected |= left\n",
        "            self._suspected = left\n", ("tests/cluster/test_reassert.py",),
    ),
    Mutation(
        "nobody claims on demand what its owner is about to put back",
        "cluster/takeover.py", "        if self._clock() < self._hold_until:\n            return False",
        "        if False:\n            return False", ("tests/cluster/test_takeover.py",),
    ),
    Mutation(
        "a node that starts leaves owners the time to put back",
        "cluster/takeover.py", "if before is None and not self._sole:", "if False:",
        ("tests/cluster/test_takeover.py",),
    ),
    Mutation(
        "who has seen a later epoch is not shown an earlier one",
        "cluster/hosted.py", "return resume is not None and resume.epoch > self.match.epoch", "return False",
        (CROSSING,),
    ),
    Mutation(
        "a refused action is sent again once",
        "client/outgoing.py", "        if not is_first:\n", "        if not is_first and len(self._refused) > 1:\n",
        (CORE,),
    ),
    Mutation(
        "a node judges its lease from before it asked",
        "cluster/lease.py", "until = sent_at + self.term_seconds", "until = now + self.term_seconds",
        ("tests/cluster/test_membership.py",),
    ),
    Mutation(
        "a match stands still when there is no room for its records",
        "cluster/hosted_output.py", "                self.stand_still(RECORDS)\n", "", (RECORDS,),
    ),
    Mutation(
        "a match that has ended is kept until its records are written",
        "cluster/archive.py", "                while hosted.match.unsettled:", "                while False:",
        (RECORDS,),
    ),
    Mutation(
        "matches that have ended count until their end is written",
        "cluster/matches.py", "self.limits.matches_max - len(self._matches) - ending",
        "self.limits.matches_max - len(self._matches)", (RECORDS,),
    ),
    Mutation(
        "what comes again under a version is another record",
        "cluster/effects.py", ':{effect.index}:{content:08x}"', ':{effect.index}"',
        ("tests/cluster/test_effects.py", RECORDS),
    ),
    Mutation(
        "effects that are not known done go out again",
        "cluster/matches.py", "        hosted.reissue_effects()\n", "", (SEEDS,),
    ),
)  # fmt: skip
