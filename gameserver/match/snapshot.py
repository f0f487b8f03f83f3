"""A whole match as plain data, and back. What is not in here does not survive."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from gameserver.errors import GameCodeError, StateError
from gameserver.match.grid import Grid
from gameserver.match.journal import TREE_OPS, apply_record, dump_batch, load_batch
from gameserver.match.player import Player, Session
from gameserver.match.queued import Queued
from gameserver.match.values import Effect, Priority
from gameserver.state import Tree

if TYPE_CHECKING:
    from gameserver.match.engine import Match
    from gameserver.match.game import Game

_logger = logging.getLogger("gameserver.match")
FORMAT: Final = 3


def dump_match(match: Match, time_us: int) -> dict[str, Any]:
    """Everything the match is made of, at `time_us` of its time."""
    return {
        "format": FORMAT,
        "game": match.spec.name,
        "state_version": match.spec.cls.state_version,
        "match": match.id,
        "epoch": match.epoch,
        "version": match.version,
        "time_us": time_us,
        "clock_us": match.clock_us,
        "tick_due_us": match.tick_due_us,
        "random": match.dice.state,
        "options": match.options,
        "summary": match.summary,
        "topics": match.topics,
        "heard": match.heard,
        "ended": match.ended,
        "failures": [match.failures, match.tick_failures],
        "tree": match.tree.dump(),
        "grids": [grid.dump() for _name, grid in sorted(match.grids.items())],
        "timers": match.timers.dump(),
        "timer_next_id": match.timers.next_id,
        "players": [_dump_player(match, player) for player in match.players.values()],
        "held": [[session_id, due_us] for session_id, due_us in match.held.items()],
        "watchers": [[session.id, session.user] for session in match.watchers.values()],
        "queue": [_dump_queued(item) for item in match.queue if not item.done],
        "batch_due_us": match.batch_due_us,
        "unsettled": [
            [version, effect.index, effect.kind, effect.payload, int(effect.priority)]
            for (version, _), effect in match.unsettled.items()
        ],
        "high_events": [[version, *dump_batch(batch)] for version, batch in match.high_events],
        "empty_since_us": match.empty_since_us,
    }


def _dump_player(match: Match, player: Player) -> list[Any]:
    session = match.session_of[player.id]
    seat = [session.id, session.received, session.applied, session.dump_outcomes(), dict(session.rates)]
    return [player.id, player.name, player.slot, player.role, player.connected, player.joined_at, seat]


def _dump_queued(item: Queued) -> list[Any]:
    # By name: a number could mean another action in the class that restores this. And it checks for itself.
    name = item.name if item.spec is None else item.spec.name
    args = list(item.args) if isinstance(item.args, tuple) else item.args
    return [item.session.id, item.seq, item.crc, name, args, item.quiet, item.at_us]


def load_match(match: Match, game: Game, snapshot: dict[str, Any], journal: list[list[Any]]) -> None:
    """The inverse of `dump_match`, into a match without state; then what the journal has since."""
    _refuse_foreign(match, snapshot)
    journal = [record for record in journal if record[0] > snapshot["version"]]
    tree = Tree.load(snapshot["tree"], game, [record[TREE_OPS] or [] for record in journal])
    match.attach(game, tree)
    match.version = snapshot["version"]
    match.clock_us = snapshot["clock_us"]
    match.resume_ticks(snapshot["tick_due_us"], snapshot["time_us"])
    match.dice.state = snapshot["random"]
    match.options = snapshot["options"]
    match.summary = dict(snapshot["summary"])
    match.topics = list(snapshot.get("topics", ()))
    match.heard = {sender: list(at) for sender, at in snapshot.get("heard", {}).items()}
    match.ended = snapshot["ended"]
    match.failures, match.tick_failures = snapshot["failures"]
    match.grids = {row[0]: Grid.load(tree, row) for row in snapshot["grids"]}
    match.timers.load(_known_timers(match, game, snapshot["timers"]), snapshot["timer_next_id"])
    for row in snapshot["players"]:
        _load_player(match, row)
    match.held = dict(snapshot["held"])
    match.watchers = {row[0]: Session(row[0], row[1], None) for row in snapshot["watchers"]}
    for row in snapshot["queue"]:
        _load_queued(match, row)
    match.batch_due_us = snapshot["batch_due_us"]
    match.empty_since_us = snapshot["empty_since_us"]
    for version, index, kind, payload, priority in snapshot.get("unsettled", ()):
        match.unsettled[version, index] = Effect(kind, payload, Priority(priority), index)
    for version, *row in snapshot.get("high_events", ()):
        match.keep_high_events(version, load_batch(row))
    for record in journal:
        apply_record(match, record)
    _upgrade(match, game, snapshot)


def _refuse_foreign(match: Match, snapshot: dict[str, Any]) -> None:
    if snapshot["format"] != FORMAT:
        raise StateError(f"a snapshot of format {snapshot['format']!r} cannot be read, only of {FORMAT}")
    if snapshot["game"] != match.spec.name:
        raise StateError(f"a snapshot of {snapshot['game']!r} cannot be restored as {match.spec.name!r}")
    if snapshot["state_version"] > match.spec.cls.state_version:
        raise StateError(
            f"the snapshot has state_version {snapshot['state_version']}, this {match.spec.name} only "
            f"{match.spec.cls.state_version}: a newer version of the game must run it"
        )


def _known_timers(match: Match, game: Game, rows: list[Any]) -> list[Any]:
    known = []
    for row in rows:
        if callable(getattr(type(game), row[2], None)):
            known.append(row)
        else:
            _logger.warning(
                "a timer of match %s is dropped: %s has no method %s any more", match.id, match.spec.name, row[2]
            )
    return known


def _load_player(match: Match, row: list[Any]) -> None:
    player = Player(row[0], row[1], row[2], row[3], connected=row[4], joined_at=row[5])
    session_id, received, applied, outcomes, rates = row[6]
    session = Session(session_id, player.id, player)
    session.received, session.applied = received, applied
    session.rates = dict(rates)
    session.load_outcomes(outcomes, match.limits.results_kept)
    match.players[player.id] = player
    match.sessions[session_id] = match.session_of[player.id] = session


def _load_queued(match: Match, row: list[Any]) -> None:
    session_id, seq, crc, name, args, quiet, at_us = row
    session = match.sessions[session_id]
    item = Queued(session, seq, crc, match.spec.by_key.get(name), name, args, quiet, at_us)
    match.queue.append(item)


def _plain_fields(dumped: dict[str, Any]) -> dict[str, Any]:
    """The root's fields of a dumped tree as plain dicts and lists."""
    classes = dumped["classes"]

    def decode(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        _node_id, kind, _audience, _owner, values = value
        decoded = [decode(item) for item in values]
        if kind == "list":
            return decoded
        if kind == "map":
            return dict(zip(decoded[::2], decoded[1::2], strict=True))
        return dict(zip(classes[kind][1], decoded, strict=True))

    fields: dict[str, Any] = decode(dumped["root"])
    return fields


def _upgrade(match: Match, game: Game, snapshot: dict[str, Any]) -> None:
    old_version = snapshot["state_version"]
    if old_version == match.spec.cls.state_version:
        return
    old = {**_plain_fields(snapshot["tree"]), "state_version": old_version}
    try:
        match.call("on_upgrade", game.on_upgrade, (old,))
    except Exception as error:
        raise GameCodeError(
            f"{match.spec.name}.on_upgrade failed for a match of state_version {old_version}: {type(error).__name__}"
        ) from error
    match.touched = True
