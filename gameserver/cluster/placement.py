"""Where matches are made and found, over all nodes.

Who asks for a match of a game gets one that runs here, if there is one with a seat: that is quickest for everybody. A
node that runs none of that game (with those options) asks the game's meeting node, the same for all that ask, so that
two who come to two nodes at once meet in one match. It knows of one with a seat, or has one made where least is run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.cluster.choice import rendezvous
from gameserver.errors import GameNotFound, GameServerError, MatchNotFound, NotFound
from gameserver.match import User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gameserver.cluster.host import Host
    from gameserver.cluster.ports import Clock
    from gameserver.cluster.questions import Questions
    from gameserver.storage import OwnedMatch

log = structlog.get_logger("gameserver.cluster")

INFO_SECONDS = 1.0
RENEWED_SECONDS = 1.0  # by then nodes have told how many matches they run
OFFER_SECONDS = 0.5  # a node that takes longer to say whether it has a seat is not waited for


class Placement:
    """Asks other nodes for matches, and answers theirs."""

    def __init__(self, questions: Questions, host: Host, clock: Clock, *, owns: bool) -> None:
        self._questions = questions
        self._host = host
        self._clock = clock
        self._owns = owns
        self._meetings: dict[tuple[str, str], asyncio.Lock] = {}
        self._placed: dict[str, int] = {}  # node → matches made there since its last renewal was read
        self._placed_at = 0.0
        questions.answers |= {
            "create": self._on_create,
            "meet": self._on_meet,
            "offer": self._on_offer,
            "info": self._on_info,
        }

    # --- asking -------------------------------------------------------------------------------------------------------
    async def create(self, game: str, options: dict[str, Any], user: User) -> dict[str, Any]:
        """A new match on the node that has the least to do; its info."""
        nodes = self._questions.owner_nodes(game)
        if not nodes:
            raise GameNotFound(f"No node runs the game {game!r}.")
        if self._clock.now() - self._placed_at > RENEWED_SECONDS:
            self._placed, self._placed_at = {}, self._clock.now()
        chosen = min(nodes, key=lambda node: (node.matches + self._placed.get(node.id, 0), node.id)).id
        self._placed[chosen] = self._placed.get(chosen, 0) + 1
        info: dict[str, Any] = await self._questions.ask(chosen, "create", _body(game, options, user))
        return info

    async def find(self, game: str, options: dict[str, Any], user: User) -> dict[str, Any] | None:
        """A match with a seat for this user, made if there is none; its info. None: there is no other node to ask."""
        nodes = [node.id for node in self._questions.owner_nodes(game)]
        if not nodes and not self._owns:
            raise GameNotFound(f"No node runs the game {game!r}.")
        if not nodes or nodes == [self._questions.node]:
            return None
        meeting = rendezvous(f"{game} {sorted(options.items())!r}", nodes)[0]
        try:
            info: dict[str, Any] = await self._questions.ask(meeting, "meet", _body(game, options, user))
        except GameServerError as error:
            if not self._owns or not error.retryable:
                raise
            log.warning("meeting_node_does_not_answer", node=meeting, game=game, error=error.message)
            return None
        return info

    async def info(self, owned: OwnedMatch) -> dict[str, Any]:
        """What a listing shows of a match that another node runs; less of it if that node does not answer."""
        if owned.node and owned.node != self._questions.node:
            try:
                info: dict[str, Any] = await self._questions.ask(
                    owned.node, "info", {"match": owned.match_id}, seconds=INFO_SECONDS
                )
            except GameServerError as error:
                log.debug("match_info_missing", match=owned.match_id, error=error.message)
            else:
                return info
        return {
            "match": owned.match_id, "game": owned.game, "players": owned.connected,
            "players_connected": owned.connected, "players_max": 0, "spectators": 0, "spectators_max": 0, "open": False,
            "summary": {}, "epoch": owned.epoch, "version": owned.version, "time_seconds": 0.0, "created_at": 0.0,
            "ended": None,
        }  # fmt: skip

    async def ask_others(self, what: str, body: dict[str, Any]) -> list[Any]:
        """What all other nodes that run matches answer in time."""
        others = [node.id for node in self._questions.owner_nodes() if node.id != self._questions.node]
        return await self._questions.ask_each(others, what, body, seconds=INFO_SECONDS)

    # --- answering ----------------------------------------------------------------------------------------------------
    async def _on_create(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self._owns:
            raise NotFound("This node runs no matches.")
        return await self._host.make(body["game"], body["options"], _user(body))

    async def _on_meet(self, body: dict[str, Any]) -> dict[str, Any]:
        game, options = body["game"], body["options"]
        key = (game, repr(sorted(options.items())))
        lock = self._meetings.setdefault(key, asyncio.Lock())
        try:
            async with lock:  # who comes second finds what was made for who came first
                return await self._meet(game, options, body)
        finally:
            if not lock.locked():
                self._meetings.pop(key, None)

    async def _meet(self, game: str, options: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        found = self._host.offer(game, options, _user(body))
        if found is not None:
            return found
        others = [node.id for node in self._questions.owner_nodes(game) if node.id != self._questions.node]
        for offered in await self._questions.ask_each(others, "offer", body, seconds=OFFER_SECONDS):
            if offered is not None:
                return dict(offered)
        return await self.create(game, options, _user(body))

    async def _on_offer(self, body: dict[str, Any]) -> dict[str, Any] | None:
        return self._host.offer(body["game"], body["options"], _user(body))

    async def _on_info(self, body: Mapping[str, Any]) -> dict[str, Any]:
        hosted = self._host.local(body["match"])
        if hosted is None:
            raise MatchNotFound
        return hosted.info()


def _body(game: str, options: dict[str, Any], user: User) -> dict[str, Any]:
    return {"game": game, "options": options, "user": user.id, "name": user.name, "role": user.role}


def _user(body: Mapping[str, Any]) -> User:
    return User(body["user"], body["name"], body["role"])
