"""Questions between nodes: one asks, another answers or says what is wrong, and silence ends after a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from gameserver.cluster.links import Answer, Ask, encode_link, error_from, node_channel
from gameserver.errors import GameServerError, InternalError, LimitReached, MatchMoved, RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gameserver.storage import Bus, NodeInfo

log = structlog.get_logger("gameserver.cluster")

ASK_SECONDS = 3.0
ASKS_MAX = 10_000


class Questions:
    """What this node asks others, and what it answers them."""

    def __init__(self, bus: Bus, live_nodes: Callable[[], Iterable[NodeInfo]], node: str, prefix: str) -> None:
        self.node = node
        self.answers: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {}
        """What is asked → who answers."""
        self._bus = bus
        self._live_nodes = live_nodes
        self._prefix = prefix
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._asked = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def stop(self) -> None:
        """Answer nothing more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def owner_nodes(self, game: str | None = None) -> list[NodeInfo]:
        """The nodes that take new matches (of this game), as of a moment ago."""
        return [
            node
            for node in self._live_nodes()
            if "owner" in node.roles and not node.draining and (game is None or game in node.games)
        ]

    # --- asking -------------------------------------------------------------------------------------------------------
    async def ask(self, node: str, what: str, body: dict[str, Any], *, seconds: float = ASK_SECONDS) -> Any:
        """Ask one node; raises what it answers, or MatchMoved when it does not."""
        if node == self.node:
            return await self._answer(what, body)
        if len(self._waiting) >= ASKS_MAX:
            raise LimitReached(f"{ASKS_MAX} questions wait for other nodes.")
        self._asked += 1
        number = self._asked
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(node, Ask(self.node, number, what, body))
            async with asyncio.timeout(seconds):
                answer = await future
        except TimeoutError:
            raise MatchMoved(f"The node {node} does not answer: try again.") from None
        finally:
            del self._waiting[number]
        if answer.ok:
            return answer.result
        code, message, retryable = answer.result
        raise error_from(code, message, retryable=retryable)

    async def ask_each(
        self, nodes: Iterable[str], what: str, body: dict[str, Any], *, seconds: float = ASK_SECONDS
    ) -> list[Any]:
        """Ask these nodes at the same time; what they answer. Those that do not, or that refuse, are left out."""
        answers = await asyncio.gather(
            *(self.ask(node, what, body, seconds=seconds) for node in nodes), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, GameServerError):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    def _send(self, node: str, message: Ask | Answer) -> None:
        self._bus.publish(node_channel(self._prefix, node), encode_link(message))

    # --- what comes in ------------------------------------------------------------------------------------------------
    def answered(self, message: Answer) -> None:
        """An answer has come; one that is late is nobody's."""
        future = self._waiting.get(message.number)
        if future is not None and not future.done():
            future.set_result(message)

    def asked(self, message: Ask) -> None:
        """Another node asks."""
        task = asyncio.create_task(self._reply(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, asked: Ask) -> None:
        try:
            answer = Answer(asked.number, True, await self._answer(asked.what, asked.body))
        except GameServerError as error:
            answer = Answer(asked.number, False, [error.code, error.message, error.retryable])
        except Exception as failure:
            log.error("question_failed", what=asked.what, edge=asked.edge, exc_info=failure)
            internal = InternalError()
            answer = Answer(asked.number, False, [internal.code, internal.message, internal.retryable])
        self._send(asked.edge, answer)

    async def _answer(self, what: str, body: dict[str, Any]) -> Any:
        answer = self.answers.get(what)
        if answer is None:
            raise RequestInvalid(f"This node does not know what {what[:40]!r} is.")
        return await answer(body)
