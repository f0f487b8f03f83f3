"""One flush of a match as the journal has it: all it takes to go from the version before to this one, exactly.

A record is a plain list, encoded with msgpack:

    [version, clock_us, tick_due_us, random, consumed, changes, tree, events, effects]

consumed  what became of each seq: `[session, seq, crc, error, result, rate]`
changes   what else changed, by name: timers, seats, held, grids, and those of `_MISC` below
tree      see `gameserver.state.journal`; nil if nothing changed
events    the HIGH ones: `[receivers | nil, [[name, data], …]]`
effects   `[kind, payload, priority]`

Not in it: queued actions (nobody was told that they would last: clients send them again) and who watches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gameserver.errors import StateError
from gameserver.match.grid import Grid
from gameserver.match.player import Player, Session
from gameserver.match.values import Effect, EventBatch, Priority
from gameserver.state.pack import Packer, array_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gameserver.match.engine import Match
    from gameserver.match.output import MatchOutput
    from gameserver.match.seats import MatchSeats

_encode = msgspec.msgpack.Encoder().encode
_NIL: Final = b"\xc0"
_NINE: Final = b"\x99"
"""An array of nine."""
_NOTHING: Final = b"\x90\x90"
"""No events and no effects."""
TREE_OPS: Final = 6
"""Where a record has the tree's part."""
_OUT: Final = Packer()
"""Where a record is put together."""
_MISC: Final = ("summary", "topics", "heard", "failures", "tick_failures", "ended", "empty_since_us")


class Recorder:
    """Writes the records of one match. Remembers what the last one said of the things that are kept as a whole."""

    __slots__ = ("_match", "_misc")

    def __init__(self, match: Match) -> None:
        self._match = match
        self._misc = _misc_of(match)
        match.timers.take_changes()
        for grid in match.grids.values():
            grid.take_changes()
        match.seats_changed = False

    def record(self, output: MatchOutput) -> bytes:
        """The record of the flush that made `output`."""
        match = self._match
        consumed, match.consumed = match.consumed, []
        changes = self._changes()
        out = _OUT
        out.clear()
        out.put_raw(_NINE)
        out.put_int(output.version)
        out.put_int(match.clock_us)
        out.put_int(match.tick_due_us)
        out.put_uint(match._random.state)
        out.put_raw(array_head(len(consumed)))  # the rows and the tree's part are encoded already
        for row in consumed:
            out.put_raw(row)
        out.put_raw(_NIL if changes is None else _encode(changes))
        out.put_raw(output.patch.journal or _NIL)
        if output.gated_events or output.effects:
            out.put_raw(_encode([dump_batch(batch) for batch in output.gated_events]))
            out.put_raw(_encode([_dump_effect(effect) for effect in output.effects]))
        else:
            out.put_raw(_NOTHING)
        return out.taken()

    def _changes(self) -> dict[str, Any] | None:
        match = self._match
        changes: dict[str, Any] = {}
        misc = _misc_of(match)
        if misc != self._misc:
            changes = {name: now for name, now, was in zip(_MISC, misc, self._misc, strict=True) if now != was}
            self._misc = misc
        timers = match.timers.take_changes()
        if timers is not None:
            changes["timers"] = timers
        if match.seats_changed:
            match.seats_changed = False
            changes["seats"] = [_dump_seat(match, player) for player in match.players.values()]
            changes["held"] = [[session_id, due_us] for session_id, due_us in match.held.items()]
        if match.grids:
            grids = [row for _, grid in sorted(match.grids.items()) if (row := grid.take_changes()) is not None]
            if grids:
                changes["grids"] = grids
        return changes or None


def _misc_of(match: MatchSeats) -> tuple[Any, ...]:
    """The values of `_MISC`."""
    return (
        match.summary, match.topics, match.heard, match.failures, match.tick_failures, match.ended, match.empty_since_us
    )  # fmt: skip


def dump_batch(batch: EventBatch) -> list[Any]:
    """HIGH events as plain data."""
    return [None if batch.receivers is None else sorted(batch.receivers), batch.events]


def _dump_effect(effect: Effect) -> list[Any]:
    return [effect.kind, effect.payload, int(effect.priority)]


def load_batch(row: list[Any]) -> EventBatch:
    """The inverse of `dump_batch`."""
    return EventBatch(None if row[0] is None else frozenset(row[0]), row[1], Priority.HIGH)


def _dump_seat(match: Match, player: Player) -> list[Any]:
    session = match.session_of[player.id]
    return [player.id, player.name, player.slot, player.role, player.connected, player.joined_at, session.id]


def encode_records(records: Sequence[bytes]) -> bytes:
    """The payload of a journal entry: the records of successive flushes."""
    count = len(records)
    head = bytes((0x90 | count,)) if count < 16 else b"\xdd" + count.to_bytes(4, "big")  # of a msgpack array
    return head + b"".join(records)


def decode_records(payload: bytes) -> list[list[Any]]:
    """The records of a journal entry. Raises StateError for bytes that are none."""
    try:
        records: list[list[Any]] = msgspec.msgpack.decode(payload, type=list[list[Any]], strict=True)
    except msgspec.MsgspecError as error:
        raise StateError(f"not a journal entry: {error}") from None
    return records


def apply_record(match: Match, record: list[Any]) -> None:
    """Bring all of the match but its tree from the version before to the record's. Raises StateError for a gap."""
    version, clock_us, tick_due_us, random, consumed, changes, _tree, events, effects = record
    if version != match.version + 1:
        raise StateError(f"the journal goes from version {match.version} to {version}")
    match.version, match.clock_us, match.tick_due_us, match.dice.state = version, clock_us, tick_due_us, random
    if changes:
        _apply_changes(match, changes)  # seats first: who sat down may have acted in the same flush
    for row in consumed:
        _consume(match, version, row)
    for row in events:
        match.keep_high_events(version, load_batch(row))
    for index, (kind, payload, priority) in enumerate(effects):
        match.unsettled[version, index] = Effect(kind, payload, Priority(priority), index)


def _consume(match: Match, version: int, row: list[Any]) -> None:
    session_id, seq, crc, error, result, rate = row
    session = match.sessions.get(session_id)
    if session is None:
        return  # it left in the same flush
    if match.queue:
        match.queue = [item for item in match.queue if item.session is not session or item.seq > seq]
    session.received = max(session.received, seq)
    session.settle(seq, crc, version, error, result, match.limits.results_kept)
    if rate is not None:
        session.rates[rate[0]] = rate[1]


def _apply_changes(match: Match, changes: dict[str, Any]) -> None:
    for name in _MISC:
        if name in changes:
            setattr(match, name, changes[name])
    if "timers" in changes:
        match.timers.apply_changes(changes["timers"])
    if "seats" in changes:
        _apply_seats(match, changes["seats"])
        match.held = dict(changes["held"])
    for row in changes.get("grids", ()):
        grid = match.grids.get(row[0])
        if grid is None:
            match.grids[row[0]] = Grid.load(match.tree, row)
        else:
            grid.apply_changes(row)


def _apply_seats(match: Match, rows: list[list[Any]]) -> None:
    before, players = match.session_of, {}
    match.sessions, match.session_of = {}, {}
    for player_id, name, slot, role, connected, joined_at, session_id in rows:
        session = before.get(player_id)
        player = match.players.get(player_id)
        if player is None or session is None:
            player = Player(player_id, name, slot, role)
        if session is None or session.id != session_id:
            rates = session.rates if session is not None else {}
            session = Session(session_id, player_id, player)
            session.rates = rates
        player.name, player.slot, player.role = name, slot, role
        player.connected, player.joined_at = connected, joined_at
        session.player = player
        players[player_id] = player
        match.sessions[session_id] = match.session_of[player_id] = session
    match.players = players
    for item in match.queue:
        item.done = item.done or item.session.id not in match.sessions
