"""A match that you are in: what you see of it, what you do in it, and what you want to be told."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gameserver.client.outcomes import ActionFailed, Changed, Disconnected, Ended, Happened, Reconnected
from gameserver.errors import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from gameserver.client.client import Client
    from gameserver.client.outcomes import Outcome
    from gameserver.client.room_core import RoomCore
    from gameserver.errors import GameServerError

log = logging.getLogger("gameserver.client")

CALLBACK_TASKS_MAX = 1000  # coroutine callbacks running at once in one room; further calls are dropped and logged

Callback = TypeVar("Callback", bound=Callable[..., Any])
Unsubscribe = Callable[[], None]


class CloseReason(NamedTuple):
    """Why a room was closed: a stable `code`, a text for people, and whether joining again makes sense."""

    code: str
    message: str
    reconnect: bool


class Room:
    """A joined match. You get one from `client.join_or_create(…)`, `client.join(…)` or `client.create(…)`.

        room = await client.join_or_create("arena")

        @room.on_event("hit")
        def hit(data):
            print(data["target"], "was hit")

        room.send("steer", dx=1.0, dy=0.0)           # no waiting, no result
        if await room.action("fire", target="bob"):  # waits for the server's word
            print("my ships:", room.state.ships)

    Everything happens in the event loop that the client was made in: callbacks run there, between your own awaits.
    Keep them short, and register them right after joining, before the next `await`: nothing is missed then.
    """

    def __init__(self, client: Client, core: RoomCore) -> None:
        self._client = client
        self._core = core
        core.owner = self
        self._event_callbacks: dict[str, list[Callable[..., Any]]] = {}
        self._change_callbacks: list[Callable[..., Any]] = []
        self._disconnect_callbacks: list[Callable[..., Any]] = []
        self._reconnect_callbacks: list[Callable[..., Any]] = []
        self._close_callbacks: list[Callable[..., Any]] = []
        self._error_callbacks: list[Callable[..., Any]] = []
        self._waiters: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.close_reason: CloseReason | None = None

    def __repr__(self) -> str:
        return f"<Room {self.game} {self.match_id} at {self.position}{' closed' if self.closed else ''}>"

    # --- what you see -------------------------------------------------------------------------------------------------
    @property
    def state(self) -> Any:
        """The match's state as the server shows it to you, always current and read only.

        Read it like the author's classes: `room.state.ships["alice"].x`, `for ship in room.state.ships.values()`.
        What you may not see is absent from a map and None in a field or list. Do not keep parts of it over an
        `await`: ask `room.state` again, or take a copy with `to_plain(room.state)` (dicts, lists and values).
        """
        return self._core.mirror.root

    @property
    def position(self) -> tuple[int, int]:
        """How far this client is, `(epoch, version)`: it only grows."""
        return self._core.position

    @property
    def time_ms(self) -> int:
        """The match's time at the last version received, in milliseconds."""
        return self._core.time_ms

    @property
    def applied(self) -> int:
        """The number of your last action that `state` already contains (for prediction)."""
        return self._core.applied

    @property
    def match_id(self) -> str:
        """The match's id: give it to others, they `join` with it."""
        return self._core.match_id

    @property
    def game(self) -> str:
        """The game's name."""
        return self._core.game

    @property
    def session(self) -> str:
        """The id of your presence in this match."""
        return self._core.session

    @property
    def player_id(self) -> str:
        """Your own id, as it is found in the state."""
        return self._client.user_id

    @property
    def spectator(self) -> bool:
        """Are you only watching?"""
        return self._core.spectator

    @property
    def actions(self) -> list[str]:
        """The names of the game's actions."""
        return list(self._core.actions)

    @property
    def unacknowledged(self) -> int:
        """How many of your actions the server has not answered, those that wait to be sent included.

        Of those that you sent without waiting it acknowledges only every sixteenth: up to fifteen are normal.
        """
        return self._core.unacknowledged + self._core.waiting

    @property
    def events_lost(self) -> int:
        """How many times the server had to drop events for you because you did not read fast enough."""
        return self._core.events_lost

    @property
    def connected(self) -> bool:
        """Is the match within reach now? If not and not `closed` either, the client is on its way back to it."""
        return self._core.connected

    @property
    def closed(self) -> bool:
        """Has the match ended for you? `close_reason` says why."""
        return self._core.ended is not None

    # --- what you do --------------------------------------------------------------------------------------------------
    async def action(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Do something in the match and wait for the result: `await room.action("fire", target="bob")`.

        Returns what the author's method returned. Raises what it raised: `ActionRefused` with the game's reason,
        `ActionInvalid` for wrong arguments, `RateLimited`, … (all in `gameserver.errors`). Actions of one room apply in
        the order in which you start them. No more than 64 are ever under way; further ones wait for their turn.
        An action under way when the connection is lost is sent again when the client is back, and done once. For a time
        limit wrap it in `asyncio.timeout(…)`, or set one for all with `Client(action_timeout_seconds=…)`, which raises
        `OutcomeUnknown`: the action may then still happen.
        """
        answer = self._client.ticket()
        try:
            self._client.perform(self._core.act(name, _arguments(args, kwargs), answer))
            return await self._answer_in_time(name, answer)
        finally:
            answer.cancel()

    async def _answer_in_time(self, name: str, answer: asyncio.Future[Any]) -> Any:
        limit = self._client.action_timeout_seconds
        if limit is None:
            return await answer
        done, _ = await asyncio.wait([answer], timeout=limit)
        if not done:
            raise OutcomeUnknown(f"no answer to {name} within {limit:g} s: it may still happen")
        return answer.result()

    def send(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Do something without waiting and without a result: `room.send("steer", dx=1.0, dy=0.0)`.

        For what comes often and is soon replaced by the next. What the server refuses goes to `on_error` callbacks, or
        to the log. Raises `LimitReached` when over a thousand such actions wait for a server that does not answer.
        """
        self._client.perform(self._core.act(name, _arguments(args, kwargs)))

    async def leave(self) -> None:
        """Give up your seat. The connection stays open for other rooms."""
        if not self.closed:
            await self._client.leave(self._core)

    # --- what you want to be told -------------------------------------------------------------------------------------
    def on_event(self, name: str, callback: Callable[..., Any] | None = None) -> Any:
        """Call `callback(data)` at every event of that name ("*": `callback(name, data)` at every event).

        Returns a function that unsubscribes. Also a decorator: `@room.on_event("hit")`. A callback may be a coroutine
        function; it then runs as a task of its own. One that raises is logged; the others are still called.
        """
        return self._subscribed(self._event_callbacks.setdefault(name, []), callback)

    def on_change(self, callback: Callable[[Any], Any] | None = None) -> Any:
        """Call `callback(changes)` after every version that changed your view of the state.

        `changes` tells where, as paths; `room.state` is already the new one. Returns a function that unsubscribes.
        """
        return self._subscribed(self._change_callbacks, callback)

    def on_disconnect(self, callback: Callable[[GameServerError], Any] | None = None) -> Any:
        """Call `callback(error)` when the match gets out of reach; the client tries to come back by itself."""
        return self._subscribed(self._disconnect_callbacks, callback)

    def on_reconnect(self, callback: Callable[[bool], Any] | None = None) -> Any:
        """Call `callback(recovered)` when the match is within reach again.

        True: the state and the events you missed follow now. False: `state` is a new one, and events may be missing.
        """
        return self._subscribed(self._reconnect_callbacks, callback)

    def on_close(self, callback: Callable[[CloseReason], Any] | None = None) -> Any:
        """Call `callback(reason)` once, when the match has ended for you or the connection is gone."""
        return self._subscribed(self._close_callbacks, callback)

    def on_error(self, callback: Callable[[str, GameServerError], Any] | None = None) -> Any:
        """Call `callback(action_name, error)` when an action that you sent without waiting was refused."""
        return self._subscribed(self._error_callbacks, callback)

    async def next_event(self, name: str) -> Any:
        """Wait for the next event of that name and return its data; raises when the room is closed before."""
        return await self._wait(self._event_callbacks.setdefault(name, []), lambda data: (data,))

    async def wait_for(self, condition: Callable[[Any], Any]) -> Any:
        """Wait until `condition(room.state)` is true, and return what it gave; raises when the room is closed before.

        await room.wait_for(lambda state: state.turn == room.player_id)
        """
        if value := condition(self.state):
            return value
        return await self._wait(
            self._change_callbacks, lambda _changes: (value,) if (value := condition(self.state)) else None
        )

    async def _wait(self, callbacks: list[Callable[..., Any]], match: Callable[[Any], tuple[Any] | None]) -> Any:
        """Wait for a callback whose argument `match` likes; it answers with a 1-tuple of the result."""
        if self._core.ended is not None:
            raise self._core.ended
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def called(argument: Any) -> None:
            if waiter.done():
                return
            try:
                found = match(argument)
            except Exception as failure:  # noqa: BLE001 - the condition is the waiter's own code: it gets the exception
                waiter.set_exception(failure)
                return
            if found is not None:
                waiter.set_result(found[0])

        self._waiters.add(waiter)
        callbacks.append(called)
        try:
            return await waiter
        finally:
            callbacks.remove(called)
            self._waiters.discard(waiter)

    def _subscribed(self, callbacks: list[Callable[..., Any]], callback: Callable[..., Any] | None) -> Any:
        if callback is None:

            def decorate(decorated: Callback) -> Callback:
                callbacks.append(decorated)
                return decorated

            return decorate
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return unsubscribe

    # --- what the client calls ----------------------------------------------------------------------------------------
    def told(self, outcome: Outcome) -> None:
        """Something happened in the match, or to it."""
        match outcome:
            case Changed():
                # Where it changed is worked out only for those who ask.
                if self._change_callbacks and (changes := self._core.mirror.changes):
                    self._call(self._change_callbacks, changes)
            case Happened(_, name, data):
                self._call(self._event_callbacks.get(name, ()), data)
                self._call(self._event_callbacks.get("*", ()), name, data)
            case ActionFailed(_, name, error):
                self._action_failed(name, error)
            case Disconnected(_, error):
                self._call(self._disconnect_callbacks, error)
            case Reconnected(_, recovered):
                self._call(self._reconnect_callbacks, recovered)
            case Ended(_, error, reconnect):
                self._ended(error, reconnect=reconnect)

    def _action_failed(self, name: str, error: GameServerError) -> None:
        """An action that nobody waits for was refused."""
        if self._error_callbacks:
            self._call(self._error_callbacks, name, error)
        else:
            log.warning("%s: the action %r was refused: %s", self.match_id, name, error)

    def _ended(self, error: GameServerError, *, reconnect: bool) -> None:
        self.close_reason = CloseReason(error.code, error.message, reconnect)
        for waiter in [waiter for waiter in self._waiters if not waiter.done()]:
            waiter.set_exception(error)
        self._call(self._close_callbacks, self.close_reason)

    @property
    def busy(self) -> bool:
        """Is it open, or does a coroutine callback still run?"""
        return not self.closed or bool(self._tasks)

    async def finish(self) -> None:
        """Stop the coroutine callbacks that still run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _call(self, callbacks: list[Callable[..., Any]] | tuple[()], *args: Any) -> None:
        for callback in tuple(callbacks):
            try:
                result = callback(*args)
                if inspect.isawaitable(result):
                    self._run(callback, result)
            except Exception:  # a fault in one callback must not cost the others, nor the receive loop
                log.exception("%s: the callback %r failed", self.match_id, callback)

    def _run(self, callback: Callable[..., Any], awaitable: Awaitable[Any]) -> None:
        if len(self._tasks) >= CALLBACK_TASKS_MAX:
            if inspect.iscoroutine(awaitable):
                awaitable.close()
            log.error("%s: %d callbacks are still running: %r is not called", self.match_id, len(self._tasks), callback)
            return
        task = asyncio.ensure_future(awaitable)
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("%s: a callback failed", self.match_id, exc_info=failure)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | dict[str, Any]:
    if args and kwargs:
        raise TypeError("give an action's arguments either all by position or all by name")
    return list(args) if args else kwargs
