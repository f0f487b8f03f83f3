"""Rounds of chaos: players act, something breaks and is mended, all comes to rest and is checked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from pymongo import MongoClient

from tests.chaos.checks import Match, reckon
from tests.chaos.faults import LATE, Fault, Struck, continue_all, strike
from tests.chaos.fleet import Fleet
from tests.chaos.players import Player, Watcher
from tests.chaos.report import Report
from tests.chaos.visitors import Visitor

CALM_SECONDS = 0.5
VISITORS_LEAVE = 0.5  # so many of them; the others vanish
LAG_PROBE_SECONDS = 0.05
RECORDS_SECONDS = 15.0
GAMES = ("ledger", "strict_ledger")


@dataclass(frozen=True, slots=True)
class Before:
    """Where a player was connected, and what was counted so far, when a round began."""

    at: str
    drops: int
    room_drops: int
    not_recovered: int
    unknown: int

    @classmethod
    def of(cls, one: Watcher) -> Before:
        client, books = one.client, one.books
        at = client.at.name if client.at is not None else ""
        return cls(at, len(client.drops), books.room_drops, books.not_recovered, client.unknown)


class Chaos:
    """A fleet under players. `start`, then `round` as often as wanted, then `end`."""

    def __init__(self, fleet: Fleet, report: Report, random: Random) -> None:
        self.fleet = fleet
        self.report = report
        self.matches: list[Match] = []
        self._random = random
        self._lag: asyncio.Task[None] | None = None

    @property
    def players(self) -> list[Player]:
        return [player for match in self.matches for player in match.players]

    @property
    def everyone(self) -> list[Watcher]:
        return [one for match in self.matches for one in match.everyone]

    async def start(
        self, matches: int, players_per_match: int, actions_per_second: float, *, faithful: bool = True
    ) -> None:
        """Make matches, spread over the nodes, with players on every node in each of them, and a spectator.

        `faithful`: every second player keeps to one node. The others take the next one with each connection; every
        fourth player goes on to the node that runs the match.
        """
        await self.fleet.start()
        nodes = self.fleet.nodes
        self._lag = asyncio.create_task(self._probe_lag())
        for number in range(matches):
            match = Match("", GAMES[number // len(nodes) % len(GAMES)], [], [], {})
            self.matches.append(match)
            for index in range(players_per_match):
                at = (number + index) % len(nodes)
                places = [nodes[at]] if faithful and index % 2 else nodes[at:] + nodes[:at]
                random = Random(self._random.getrandbits(32))
                player = Player(
                    f"m{number}p{index}", places, self.fleet, random, 1 / actions_per_second, direct=index % 4 == 2
                )
                match.players.append(player)
                if match.id:
                    await player.enter(match.id, match.history)
                else:
                    match.id = await player.create(match.game, match.history)
            at = (number + 1) % len(nodes)
            watcher = Watcher(f"m{number}w", nodes[at:] + nodes[:at], self.fleet)
            match.watchers.append(watcher)
            await watcher.enter(match.id, match.history)

    async def end(self) -> None:
        continue_all(self.fleet)
        if self._lag is not None:
            self._lag.cancel()
        visitors = [visitor for match in self.matches for visitor in match.visitors]
        await asyncio.gather(*(one.close() for one in [*self.everyone, *visitors]), return_exceptions=True)
        await self.fleet.end()

    async def round(self, fault: Fault) -> bool:
        """One fault, and the reckoning. False: a promise is broken."""
        before = {one: Before.of(one) for one in self.everyone}
        for one in self.everyone:
            one.watch_anew()
        for player in self.players:
            player.acting.set()
        match = self.matches[fault.match % len(self.matches)]
        struck = Struck(fault)
        owners = {match.id: (await self.fleet.owner(match.id)).name for match in self.matches}
        late = fault.kind == LATE
        visits = [asyncio.create_task(visit) for match in self.matches for visit in self._visits(match, late=late)]
        try:
            await strike(self.fleet, match.id, fault, struck)
            await asyncio.gather(*visits)
            await asyncio.sleep(CALM_SECONDS)
            found = await reckon(self.fleet, self.matches)
        except AssertionError as failure:  # a process that did not start or stop as it should
            self.report.found.problems.append(str(failure))
            return False
        self.report.found.add(found)
        self._note(struck, owners, before)
        return self.report.good

    def _visits(self, match: Match, *, late: bool) -> Iterator[Coroutine[Any, Any, None]]:
        """Somebody new comes; who has a seat from before comes back, and leaves."""
        for visitor in match.visitors:
            if not visitor.over:
                yield visitor.visit(match.id, match.history, leaves=True, late=late)
        random = Random(self._random.getrandbits(32))
        user = f"{match.players[0].user}v{len(match.visitors)}"
        visitor = Visitor(user, random.sample(self.fleet.nodes, len(self.fleet.nodes)), self.fleet, random, 1 / 8)
        match.visitors.append(visitor)
        yield visitor.visit(match.id, match.history, leaves=random.random() < VISITORS_LEAVE, late=late)

    def _note(self, struck: Struck, owners: dict[str, str], before: dict[Watcher, Before]) -> None:
        report, kind = self.report, struck.fault.kind
        report.rounds[kind] += 1
        for match in self.matches:
            for one in match.everyone:
                since, books = before[one], one.books
                drops = len(one.client.drops) - since.drops
                elsewhere = since.at not in struck.victims
                report.dropped_elsewhere += drops if elsewhere else 0
                report.dropped_at_victims += 0 if elsewhere else drops
                report.not_recovered += books.not_recovered - since.not_recovered
                report.unknown += one.client.unknown - since.unknown
                away = books.room_drops - since.room_drops
                report.rooms_away_elsewhere += away if elsewhere else 0
                report.rooms_away_at_victims += 0 if elsewhere else away
                _raise_to(report.pauses if elsewhere else report.pauses_at_victims, kind, one.pause_seconds)
                if struck.takeover and owners[match.id] in struck.victims and elsewhere:
                    report.takeovers += [] if one.epoch_at is None else [one.epoch_at - struck.at]
                    report.first_acks += [] if one.acked_at is None else [one.acked_at - struck.at]
            for player in match.players:
                _raise_to(report.waits, kind, player.wait_seconds)

    async def check_effects(self) -> None:
        """Every HIGH action asked for one record: it is in MongoDB, once."""
        acting = [*self.players, *(visitor for match in self.matches for visitor in match.visitors)]
        asked = Counter((player.user, number) for player in acting for number in player.all_shouts)
        expected = Counter((player.user, number) for player in acting for number in player.all_shouts_acknowledged)
        url, ids = self.fleet.stores.mongo_url, [match.id for match in self.matches]
        deadline = time.monotonic() + RECORDS_SECONDS
        while True:
            stored = await asyncio.to_thread(_records, str(url), ids)
            if not expected - stored or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        self.report.effects = expected.total()
        self.report.effects_missing = (expected - stored).total()
        self.report.effects_twice = (stored - asked).total()

    async def _probe_lag(self) -> None:
        while True:
            due = time.monotonic() + LAG_PROBE_SECONDS
            await asyncio.sleep(LAG_PROBE_SECONDS)
            self.report.lag_seconds = max(self.report.lag_seconds, time.monotonic() - due)


def _raise_to(longest: dict[str, float], kind: str, seconds: float) -> None:
    longest[kind] = max(longest.get(kind, 0.0), seconds)


def _records(url: str, match_ids: list[str]) -> Counter[tuple[str, int]]:
    with MongoClient(url) as client:
        rows = client["gameserver"]["records"].find({"match": {"$in": match_ids}, "kind": "shout"})
        return Counter((row["data"]["player"], row["data"]["number"]) for row in rows)


async def run(
    chaos: Chaos, faults: Iterable[Fault], total: int, show: Callable[[str], None] = lambda line: None
) -> None:
    """All rounds, until one shows a broken promise; then what the effects have left."""
    for number, fault in enumerate(faults, 1):
        started, acknowledged = time.monotonic(), chaos.report.found.acknowledged
        good = await chaos.round(fault)
        more = chaos.report.found.acknowledged - acknowledged
        took = time.monotonic() - started
        show(
            f"  {number:>4}/{total}  {fault.kind:<24} {fault.seconds:>5.1f} s  match {fault.match}   "
            f"+{more} acknowledged  {took:.1f} s  {'ok' if good else 'BROKEN'}"
        )
        if not good:
            return
    await chaos.check_effects()
