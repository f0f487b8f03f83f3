"""The promises, checked when all is calm: what was acknowledged is there once, and everybody sees the same."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gameserver.client import Client
from gameserver.errors import GameServerError, StoreUnavailable
from gameserver.match import MatchLimits
from gameserver.state import to_plain
from tests.chaos.fleet import Fleet
from tests.chaos.players import Player, Watcher
from tests.chaos.visitors import Visitor

HIGH_EVENTS_KEPT = MatchLimits().high_events_kept
SETTLE_SECONDS = float(os.environ.get("SETTLE_SECONDS", "60"))
AGREE_SECONDS = 20.0
POLL_SECONDS = 0.02


@dataclass
class Match:
    """One match and all who play in it."""

    id: str
    game: str
    players: list[Player]
    watchers: list[Watcher]
    history: dict[tuple[int, int], int]
    visitors: list[Visitor] = field(default_factory=list)
    """All who ever came for a while; who is not `over` has a seat."""

    @property
    def everyone(self) -> list[Watcher]:
        return [*self.players, *self.watchers]


@dataclass
class Findings:
    """What a reckoning found."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Any other broken promise."""
    unheard: list[str] = field(default_factory=list)
    """HIGH events that did not reach a player of the match."""
    left: int = 0
    """Visitors whose seats were given up …"""
    leaves_lost: int = 0
    """… and those who left, and whose seats are held until their time is over."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.problems)

    def add(self, other: Findings) -> None:
        self.acknowledged += other.acknowledged
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.problems += other.problems
        self.unheard += other.unheard
        self.left += other.left
        self.leaves_lost += other.leaves_lost


async def reckon(fleet: Fleet, matches: list[Match]) -> Findings:
    """Let everything come to rest, compare all accounts with each other, and begin new ones."""
    found = Findings()
    players = [player for match in matches for player in match.players]
    for player in players:
        player.acting.clear()
    await _settle(players, found)
    for match in matches:
        for one in match.everyone:
            one.watching = False  # matches are held still now
    for match in matches:
        await _reckon_match(fleet, match, found)
    await _check_nodes(fleet, len(matches), found)
    if found.good:
        await _begin_anew(matches)
    return found


async def _settle(players: Iterable[Player], found: Findings) -> None:
    """Every action has an outcome; one more from each player settles those that nobody waits for."""

    async def settle(player: Player) -> None:
        while player.under_way:
            await asyncio.wait(player.under_way)
        await player.act("put")

    tasks = {asyncio.create_task(settle(player)): player for player in players}
    _, late = await asyncio.wait(tasks, timeout=SETTLE_SECONDS)
    for task in late:
        player = tasks[task]
        found.problems.append(f"{player.user}: no answer for {SETTLE_SECONDS:.0f} s: {player.room!r}")
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _reckon_match(fleet: Fleet, match: Match, found: Findings) -> None:
    first = match.players[0]
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            await first.room.action("hold_still", True)
    except Exception as failure:  # noqa: BLE001 - whatever it is, it is what this is looking for
        found.problems.append(f"{match.id}: cannot be acted in: {failure!r}")
        return
    await _agree(match, found)
    await _check_seats(match, found)
    _check_rows(match, found)
    _check_books(match, found)
    await _check_owner(fleet, match, found)


async def _agree(match: Match, found: Findings) -> None:
    """All mirrors come to the same state under the same owner. (A version that changes nothing is not sent to all.)"""

    def differ() -> str | None:
        if away := [one.user for one in match.everyone if not one.room.connected]:
            return f"out of reach for {away}"
        epochs = {one.user: one.room.position[0] for one in match.everyone}
        if len(set(epochs.values())) > 1:
            return f"epochs {epochs}"
        views = [public(one.room.state) for one in match.everyone]
        for one, view in zip(match.everyone, views, strict=True):
            if view != views[0]:
                return f"the mirrors of {match.players[0].user} and {one.user} differ"
        return None

    if problem := await _until_none(differ):
        found.problems.append(f"{match.id}: {problem}")


def public(state: Any) -> dict[str, Any]:
    """What everyone sees."""
    view: dict[str, Any] = to_plain(state)
    for bag in view["bags"].values():
        bag.pop("sum", None)
    return view


def _check_rows(match: Match, found: Findings) -> None:
    """The numbers in the state are those that were sent, once, in order."""
    state = to_plain(match.players[0].room.state)
    for player in match.players:
        books, rows = player.books, state["bags"][player.user]["rows"]
        found.acknowledged += len(books.acknowledged)
        times = Counter(rows)
        who = f"{match.id} {player.user}"
        found.lost += [f"{who}: {number}" for number in sorted(books.acknowledged - times.keys())]
        sent = set(books.sent)
        found.duplicated += [f"{who}: {number}" for number, n in times.items() if n > 1 or number not in sent]
        if rows != books.sent and not books.errors:
            missing = [number for number in books.sent if number not in times]
            found.problems.append(f"{who}: not what was sent, in order; missing: {missing}")
        own = to_plain(player.room.state)["bags"]
        for other, bag in own.items():
            if (bag.get("sum") is not None) != (other == player.user):
                found.problems.append(f"{who}: sees {other}'s sum as {bag.get('sum')}")
    for visitor in match.visitors:
        _check_visitor_rows(match, visitor, state["bags"].get(visitor.user, {"rows": []})["rows"], found)


def _check_visitor_rows(match: Match, visitor: Visitor, rows: list[int], found: Findings) -> None:
    """All that was acknowledged before it went, and perhaps more of what it had sent, in order."""
    books, who = visitor.books, f"{match.id} {visitor.user}"
    found.acknowledged += len(books.acknowledged)
    found.lost += [f"{who}: {number}" for number in sorted(books.acknowledged - set(rows))]
    sent = iter(books.sent)
    if not all(number in sent for number in rows):  # each is looked for behind the one before
        found.duplicated.append(f"{who}: {rows} is not in the order of {books.sent}")


def _check_books(match: Match, found: Findings) -> None:
    """What happened on the way."""
    shouts = {(player.user, number) for player in match.players for number in player.books.shouted}
    shouts |= {
        (visitor.user, number)
        for visitor in match.visitors
        for number in visitor.books.acknowledged.intersection(visitor.books.shouted)
    }
    for player in match.players:
        missed = sorted(shouts - player.books.shouts.keys())
        at = player.client.at.name if player.client.at is not None else "nowhere"
        found.unheard += [f"{match.id} {player.user} at {at}: shout {number} of {other}" for other, number in missed]
        if missed and len(shouts) <= HIGH_EVENTS_KEPT:
            found.problems.append(f"{match.id} {player.user}: {len(missed)} HIGH events were not heard")
    for one in [*match.everyone, *match.visitors]:
        books, who = one.books, f"{match.id} {one.user}"
        found.problems += [f"{who}: {error}" for error in books.errors]
        if books.went_back:
            found.problems.append(f"{who}: went back {books.went_back} times")
        if books.forks:
            found.problems.append(f"{who}: saw {books.forks} positions with two states")
        if twice := [shout for shout, n in books.shouts.items() if n > 1]:
            found.problems.append(f"{who}: HIGH events heard twice: {twice}")


async def _check_seats(match: Match, found: Findings) -> None:
    """Players are in their seats. Visitors are not: who vanished has one that is held, who left has none.

    A server that is killed may not hear a goodbye: then the seat is held, too, and its time runs out. And who did
    nothing that was acknowledged may have come and gone in what was lost with an owner.
    """
    first = match.players[0].room
    due = [visitor for visitor in match.visitors if not visitor.over]

    async def differ() -> str | None:
        told, seats = to_plain(first.state)["seats"], await first.action("roll")
        if told != seats:
            return f"hooks told of seats {told}, there are {seats}"
        expected = {player.user: True for player in match.players}
        sure = {one.user for one in due if one.books.acknowledged and not one.leaves}
        expected |= {one.user: False for one in due if one.user in sure | seats.keys()}
        return None if seats == expected else f"the seats are {seats}, not {expected}"

    if problem := await _until_none(differ):
        found.problems.append(f"{match.id}: {problem}")
    for visitor in due:
        visitor.over = visitor.user not in first.state.seats
        found.left += visitor.over and visitor.leaves
        found.leaves_lost += visitor.leaves and not visitor.over
    leaves = to_plain(first.state)["leaves"]
    possible = {one.user: "left" for one in due if one.over and one.leaves}
    certain = {one.user: "left" for one in due if one.over and one.leaves and one.books.acknowledged}
    if not certain.items() <= leaves.items() <= possible.items():
        found.problems.append(f"{match.id}: seats were given up: {leaves}, not {possible}")


async def _check_owner(fleet: Fleet, match: Match, found: Findings) -> None:
    """The store names one living owner, under the epoch that clients know; its view is the mirrors'."""
    epoch = match.players[0].room.position[0]

    async def disagree() -> str | None:
        try:
            [owned] = await fleet.journal.find([match.id])
            living = {node.id for node in await fleet.journal.nodes()}
        except StoreUnavailable as error:
            return f"the store does not answer: {error}"
        if owned is None:
            return "the store does not know it"
        if owned.node not in living:
            return f"owned by {owned.node!r}, which does not live ({sorted(living)})"
        return None if owned.epoch == epoch else f"the store says epoch {owned.epoch}, clients {epoch}"

    if problem := await _until_none(disagree):
        found.problems.append(f"{match.id}: {problem}")
        return
    owner, player = await fleet.owner(match.id), match.players[0]
    async with Client(owner.url, name="auditor") as client:
        try:
            room = await client.join(match.id, spectate=True)
        except GameServerError as error:
            found.problems.append(f"{match.id}: cannot be watched at {owner.name}: {error!r}")
            return

        def differ() -> str | None:
            seen, held = public(room.state), public(player.room.state)
            return None if seen == held else f"{owner.name} shows {seen}, {player.user} has {held}"

        if problem := await _until_none(differ):
            found.problems.append(f"{match.id}: {problem}")


async def _check_nodes(fleet: Fleet, count: int, found: Findings) -> None:
    """The nodes together run as many matches as there are: none has two owners in memory, none is nobody's."""

    async def miscount() -> str | None:
        try:
            answers = await asyncio.gather(*(asyncio.to_thread(node.get, "/healthz") for node in fleet.nodes))
        except OSError as failure:
            return f"a node does not answer: {failure}"
        running = {node.name: body["matches"] for node, (_, body) in zip(fleet.nodes, answers, strict=True)}
        return None if sum(running.values()) == count else f"{count} matches, but the nodes run {running}"

    if problem := await _until_none(miscount):
        found.problems.append(problem)


async def _begin_anew(matches: list[Match]) -> None:
    for match in matches:
        async with asyncio.timeout(SETTLE_SECONDS):
            await match.players[0].room.action("begin_anew")
            await match.players[0].room.action("hold_still", False)
        match.history.clear()
        for player in [*match.players, *match.visitors]:
            books = player.books
            books.sent.clear()
            books.acknowledged.clear()
            books.shouted.clear()
        for one in [*match.everyone, *match.visitors]:
            one.books.shouts.clear()


async def _until_none(check: Callable[[], Any]) -> str | None:
    """Ask again until there is nothing to say, for a while."""
    deadline = time.monotonic() + AGREE_SECONDS
    while True:
        problem: Any = check()
        if asyncio.iscoroutine(problem):
            problem = await problem
        if problem is None or time.monotonic() > deadline:
            return problem
        await asyncio.sleep(POLL_SECONDS)
