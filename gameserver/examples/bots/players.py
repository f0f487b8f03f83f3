"""One bot per example game. Each is what a player's client would be, with dice in place of the player."""

from __future__ import annotations

import asyncio
import math
import random
import time
from typing import Any, ClassVar

from gameserver.client import Client, ConnectionLost, Room
from gameserver.errors import ActionError, GameServerError, MatchEnded, RateLimited
from gameserver.examples.bots.report import Report

RETRY_SECONDS = 1.0


class Bot:
    """Comes, plays, and comes back (as the same player) when the match is over or the server was away."""

    game: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, number: int, url: str, report: Report) -> None:
        self.name = f"{self.game}-bot-{number}"
        self.url = url
        self.report = report
        self.token: str | None = None
        self.random = random.Random()

    async def run(self) -> None:
        """Play until cancelled, or until something goes wrong that trying again does not mend."""
        while True:
            try:
                await self.visit()
            except GameServerError as error:
                if isinstance(error, MatchEnded):
                    continue
                self.report.failures[error.code] += 1
                if not error.retryable or self.token is None:
                    raise
                await asyncio.sleep(RETRY_SECONDS * (1 + self.random.random()))

    async def visit(self) -> None:
        """One connection: match after match, until it is lost."""
        async with Client(self.url, token=self.token, name=self.name) as client:
            self.report.players_seen += self.token is None
            self.token = client.token
            self.report.connected += 1
            try:
                while client.connected:
                    room = await client.join_or_create(self.game, self.options)
                    self.report.matches.add(room.match_id)
                    room.on_event("*", self.count_event)
                    room.on_change(self.count_change)
                    await self.play(room)
            finally:
                self.report.connected -= 1
        raise ConnectionLost

    async def play(self, room: Room) -> None:
        """Play one match to its end."""
        raise NotImplementedError

    async def act(self, room: Room, name: str, **args: Any) -> Any:
        """Do something and measure how long the server takes to say so; None when the rules refuse it."""
        started = time.perf_counter()
        try:
            result = await room.action(name, **args)
        except (ActionError, RateLimited):
            self.report.refused += 1
            return None
        self.report.answered(time.perf_counter() - started)
        return result

    def send(self, room: Room, name: str, **args: Any) -> None:
        """Do something without waiting for the server."""
        room.send(name, **args)
        self.report.sent += 1

    async def pause(self, low: float, high: float) -> None:
        """Think."""
        await asyncio.sleep(self.random.uniform(low, high))

    def count_event(self, name: str, _data: Any) -> None:
        self.report.events[name] += 1

    def count_change(self, _changes: Any) -> None:
        self.report.changes += 1


class ArenaBot(Bot):
    """Chases the nearest ship and fires when it is in range."""

    game = "arena"
    fire_range = 35.0

    async def play(self, room: Room) -> None:
        while not room.closed:
            ships = room.state.ships
            me = ships.get(room.player_id)
            if me is None or not me.alive:
                await self.pause(0.2, 0.4)
                continue
            others = [(id, ship) for id, ship in ships.items() if id != room.player_id and ship.alive]
            targets = [(math.hypot(ship.x - me.x, ship.y - me.y), ship.x, ship.y, id) for id, ship in others]
            if targets:
                distance, x, y, target = min(targets)
                self.send(room, "steer", dx=x - me.x + self.random.gauss(0, 5), dy=y - me.y + self.random.gauss(0, 5))
                if distance < self.fire_range and me.ammo > 0:
                    await self.act(room, "fire", target=target)
            else:
                self.send(room, "steer", dx=self.random.uniform(-1, 1), dy=self.random.uniform(-1, 1))
            await self.pause(0.15, 0.35)


class BattleshipBot(Bot):
    """Places its fleet at random, shoots at random, and next to what it has hit."""

    game = "battleship"
    options: ClassVar[dict[str, Any]] = {"turn_seconds": 10}
    lengths = (5, 4, 3, 3, 2)

    async def play(self, room: Room) -> None:
        over = asyncio.Event()
        room.on_close(lambda _reason: over.set())
        try:
            await self.act(room, "place", ships=self.random_fleet())
            while not over.is_set():
                await room.wait_for(lambda state: state.turn == room.player_id or state.phase == "over")
                if room.state.phase == "over":
                    await over.wait()
                    return
                await self.pause(0.1, 0.6)
                await self.act(room, "shoot", cell=self.choose_cell(room))
        except GameServerError:
            if room.close_reason is None or room.close_reason.reconnect:
                raise

    def random_fleet(self) -> dict[str, list[str]]:
        """Put the ships where there is room, the longest first."""
        taken: set[str] = set()
        fleet: dict[str, list[str]] = {}
        for length in self.lengths:
            while True:
                across = self.random.random() < 0.5
                x = self.random.randrange(10 - length * across + across)
                y = self.random.randrange(10 - length * (not across) + (not across))
                cells = [cell(x + step * across, y + step * (not across)) for step in range(length)]
                if taken.isdisjoint(cells):
                    break
            taken.update(cells)
            fleet[f"ship {len(fleet) + 1}"] = cells
        return fleet

    def choose_cell(self, room: Room) -> str:
        boards = room.state.boards
        shots = next(board.shots for id, board in boards.items() if id != room.player_id)
        free = {cell(x, y) for x in range(10) for y in range(10)} - set(shots)
        near = [
            cell(x + dx, y + dy)
            for x in range(10)
            for y in range(10)
            if shots.get(cell(x, y)) == "hit"
            for dx, dy in ((0, 1), (1, 0), (0, -1), (-1, 0))
        ]
        return self.random.choice(sorted(free.intersection(near) or free))


def cell(x: int, y: int) -> str:
    """The name of a cell; off the board it is one that no board has."""
    return f"{chr(ord('A') + x)}{y + 1}"


class ChatroomBot(Bot):
    """Talks, and reacts to what others say."""

    game = "chatroom"
    options: ClassVar[dict[str, Any]] = {"topic": "what bots talk about"}
    openings = ("I think that", "They say that", "Who knows whether", "Last night I dreamt that")
    closings = ("the tick is late", "all state is local", "rain is just UDP", "nobody reads this", "we are in a loop")

    async def play(self, room: Room) -> None:
        while not room.closed:
            if room.state.history and self.random.random() < 0.4:
                message = room.state.history[-1]
                await self.act(room, "react", message_id=message["id"], reaction="+1")
            else:
                self.send(room, "typing")
                await self.pause(0.5, 1.5)
                text = f"{self.random.choice(self.openings)} {self.random.choice(self.closings)}"
                await self.act(room, "say", text=text)
            await self.pause(0.5, 3.0)


BOTS: dict[str, type[Bot]] = {bot.game: bot for bot in (ArenaBot, BattleshipBot, ChatroomBot)}
