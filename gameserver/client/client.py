"""The client: one connection to a server, and the rooms on it."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp

from gameserver.client.address import Address
from gameserver.client.core import (
    Answered,
    ClientCore,
    Disconnected,
    JoinKind,
    Offered,
    Outcome,
    Refused,
    ResendLater,
    RoomCore,
    Write,
)
from gameserver.client.errors import AnswerTimeout, ConnectionClosed, RoomLeft
from gameserver.client.guest import guest_token
from gameserver.client.link import Link
from gameserver.client.reconnect import Backoff, ReconnectPolicy, Route, may_join_again
from gameserver.client.room import Room
from gameserver.errors import GameServerError, MatchMoved
from gameserver.protocol import JoinDetails

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from gameserver.protocol import WelcomeInfo

log = logging.getLogger("gameserver.client")

NOT_CONNECTED = "not connected: use `async with Client(…)` or `await client.connect()`"
RESEND_SECONDS = 0.1  # doubled with each attempt
RESEND_SECONDS_MAX = 5.0
HELLO_INFO = {"client": "gameserver-python"}


class Client:
    """A connection to a game server.

        async with Client("http://127.0.0.1:8000", token=token) as client:
            room = await client.join_or_create("arena", options={"size": 50})
            room.on_event("hit", print)
            await room.action("fire", target="bob")

    `url` is where the server is (`http://host:port`, `https://…`, `ws://…`, `wss://…`), or a list of such: the first
    that takes you is used, and the others when it is lost. `token` says who you are; a server in development mode also
    gives out guest tokens, and that is what happens without one: you are a guest called `name`, with a new id for each
    client. `timeout_seconds` bounds how long connecting, joining and requests may take; actions are not bounded, their
    answer may rightly have to wait for the match, unless you bound them with `action_timeout_seconds`.

    A connection that is lost is made again, with growing pauses, and every room is joined again: state, callbacks and
    your own calls under way go on, each action is done once (`room.on_disconnect`, `room.on_reconnect`). What you do
    meanwhile waits. `reconnect=False` turns that off: rooms close then; a `ReconnectPolicy` says how long to try.
    `direct=True`: with one room, go to the server that runs the match, where the server at `url` says which one that
    is and it can be reached from here.

    Not used to asyncio? Put your code in `async def main():`, start it with `asyncio.run(main())`, write `await` in
    front of whatever asks the server something, and `await asyncio.sleep(…)` where you would have called
    `time.sleep`: while your code is between two awaits nothing is received.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        token: str | None = None,
        name: str | None = None,
        timeout_seconds: float = 10.0,
        action_timeout_seconds: float | None = None,
        heartbeat_seconds: float = 15.0,
        reconnect: bool | ReconnectPolicy = True,
        direct: bool = False,
    ) -> None:
        self._addresses = [Address.parse(one) for one in ([url] if isinstance(url, str) else url)]
        if not self._addresses:
            raise ValueError("a client needs the address of a server")
        self._at: int | None = None  # which of them the connection is to; None: to where a match is run
        self._token = token
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self.action_timeout_seconds = action_timeout_seconds
        self._policy = ReconnectPolicy() if reconnect is True else reconnect or None
        self._direct = direct
        self._core = ClientCore(rejoins=self._policy is not None)
        self._http: aiohttp.ClientSession | None = None
        self._link: Link | None = None
        self._ended: GameServerError | None = None
        self._rooms: list[Room] = []  # open, or with callbacks that still run
        self._ready = asyncio.Event()  # the hello is answered
        self._ready_at = 0.0
        self._route: Route | None = None
        self._returning: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- connecting ---------------------------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and say hello; `async with Client(…)` does it for you.

        Raises `ServerUnreachable` when nobody is there, `AuthenticationRequired` without a token where one is
        needed, `TokenInvalid` or `TokenExpired` with a bad one.
        """
        if self._http is not None:
            raise RuntimeError("this client is connected, or was: make a new one for each connection")
        self._http = aiohttp.ClientSession()
        try:
            await self._open_first(self._http)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection and all rooms on it. Seats are held for a while: `room.leave()` gives one up."""
        if self._ended is None:
            self._ended = ConnectionClosed()
        tasks = [*self._tasks, *([self._returning] if self._returning is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        link = self._link
        if link is not None:
            await link.close()
        self._link = None
        self.perform(self._core.lost(self._ended, reconnect=False))
        for room in self._rooms:
            await room.finish()
        self._rooms.clear()
        if self._http is not None:
            await self._http.close()

    async def _open_first(self, http: aiohttp.ClientSession) -> None:
        """A connection to the first address that takes us."""
        last = len(self._addresses) - 1
        for at, address in enumerate(self._addresses):
            try:
                if self._token is None:
                    self._token = await guest_token(http, address.http, self._name, self._timeout_seconds)
                await self._open(at)
            except GameServerError as error:
                if at == last or not error.retryable:
                    raise
                self._ended = None
            else:
                return

    async def _open_link(self, address: Address) -> Link:
        assert self._http is not None, "connect() makes the session"  # noqa: S101 - an invariant
        return await Link.open(
            self._http, address.websocket, heartbeat_seconds=self._heartbeat_seconds, timeout=self._timeout_seconds
        )

    async def _open(self, at: int | None) -> None:
        """Connect to one of the addresses (None: a link is there already), and say hello."""
        if at is not None:
            self._link = await self._open_link(self._addresses[at])
        link = self._link
        assert link is not None  # noqa: S101 - one way or the other
        self._at = at
        link.start(partial(self._received, link), partial(self._lost, link))
        try:
            welcome: WelcomeInfo = await self._asked(
                lambda ticket: self._core.hello(self._token, HELLO_INFO, ticket), "the hello", greeted=False
            )
        except GameServerError:
            if self._link is link:
                self._link = None
            await link.close()
            raise
        if allowed := welcome.limits.get("messages_per_second"):
            link.pace(allowed)
        self._ready_at = asyncio.get_running_loop().time()
        self._ready.set()

    # --- who and how --------------------------------------------------------------------------------------------------
    @property
    def connected(self) -> bool:
        """Is the connection open and the hello answered?"""
        return self._ended is None and self._ready.is_set()

    @property
    def info(self) -> WelcomeInfo:
        """What the server said about this connection: user, role, name, limits, …"""
        if self._core.info is None:
            raise self._ended or ConnectionClosed(NOT_CONNECTED)
        return self._core.info

    @property
    def user_id(self) -> str:
        """Who you are: your player id in every match."""
        return self.info.user

    @property
    def token(self) -> str | None:
        """The token in use; a guest's can be given to the next `Client` to come back as the same player."""
        return self._token

    @property
    def rooms(self) -> list[Room]:
        """The rooms that are open."""
        cores = [*self._core.rooms.values(), *self._core.away]
        return [core.owner for core in cores if core.owner is not None]

    # --- rooms --------------------------------------------------------------------------------------------------------
    async def join_or_create(self, game: str, options: dict[str, Any] | None = None) -> Room:
        """Enter a match of this game with a free seat that was made with the same `options`, or make a new one."""
        return await self._joined("game", game, options, spectate=False)

    async def create(self, game: str, options: dict[str, Any] | None = None) -> Room:
        """Make a new match of this game and enter it. `room.match_id` is what others join with."""
        return await self._joined("create", game, options, spectate=False)

    async def join(self, match_id: str, *, spectate: bool = False) -> Room:
        """Enter this match; with `spectate=True` only to watch.

        If you are in it already, from here or from another connection, you take your own seat over.
        """
        return await self._joined("match", match_id, None, spectate=spectate)

    async def _joined(self, kind: JoinKind, name: str, options: dict[str, Any] | None, *, spectate: bool) -> Room:
        details = JoinDetails(options=options or {}, spectate=spectate)
        core = await self._asked(lambda ticket: self._core.join(kind, name, details, ticket), f"joining {name!r}")
        room: Room = core.owner
        return room

    async def leave(self, room: RoomCore) -> None:
        """Give up a seat (`room.leave()` calls this). One that is out of reach is given up by the server in time."""
        if not room.connected:
            self.perform(self._core.end(room, RoomLeft(), reconnect=False))
            return
        await self._asked(lambda ticket: self._core.leave(room, ticket), "leaving")

    # --- requests -----------------------------------------------------------------------------------------------------
    async def request(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Ask the server for something outside of a match, and wait for the answer."""
        return await self._asked(lambda ticket: self._core.request(method, params or {}, ticket), f"request {method!r}")

    async def matches(self, **filters: Any) -> list[dict[str, Any]]:
        """List running matches: `await client.matches(game="arena")`."""
        answer = await self.request("matches", filters)
        found: list[dict[str, Any]] = answer["matches"] if isinstance(answer, dict) else answer
        return found

    async def ping(self) -> float:
        """How long a message to the server and back takes now, in seconds."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self._asked(self._core.ping, "the ping")
        return loop.time() - started

    # --- the machinery ------------------------------------------------------------------------------------------------
    def ticket(self) -> asyncio.Future[Any]:
        """What an answer is waited for with."""
        return asyncio.get_running_loop().create_future()

    async def _asked(self, encode: Callable[[asyncio.Future[Any]], bytes], what: str, *, greeted: bool = True) -> Any:
        """Send a question and wait for its answer, within the time limit; first for a connection that is on its way."""
        ticket = self.ticket()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                link = await self._reachable() if greeted else self._link
                if link is None:
                    raise self._ended or ConnectionClosed(NOT_CONNECTED)
                link.write(encode(ticket))
                return await ticket
        except TimeoutError:
            raise AnswerTimeout(f"no answer to {what} within {self._timeout_seconds:g} s") from None
        finally:
            self._core.forget(ticket)

    async def _reachable(self) -> Link | None:
        """The connection, or the one that is on its way."""
        while not self._ready.is_set() and self._returning is not None and not self._returning.done():
            await asyncio.wait([self._returning])
        return self._link if self._ended is None else None

    def _received(self, link: Link, data: bytes) -> None:
        if link is self._link:
            self.perform(self._core.receive(data))

    def _lost(self, link: Link, error: GameServerError, reconnect: bool) -> None:
        """The connection is gone: come back, or tell everybody who waits why not."""
        if link is not self._link:
            return
        self._link = None
        was_ready = self._ready.is_set()
        self._ready.clear()
        error = self._core.last_error or error
        may_return = reconnect and (was_ready or self._route is not None)
        if self._ended is not None or self._policy is None or not may_return:
            self._ended = self._ended or error
            self.perform(self._core.lost(self._ended, reconnect=reconnect))
            return
        now = asyncio.get_running_loop().time()
        route = self._routed(self._policy, now)
        self.perform(self._core.cut(error))
        if was_ready:
            route.lost(now, self._at, now - self._ready_at, error)
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._come_back(route, error), name="gameserver client: back")

    def _routed(self, policy: ReconnectPolicy, now: float) -> Route:
        if self._route is None:
            self._route = Route(len(self._addresses), policy, random.random, now)
        return self._route

    async def _come_back(self, route: Route, cause: GameServerError) -> None:
        """Connect, by way of the link that is there already if one is, and join everything again."""
        loop = asyncio.get_running_loop()
        while not self._ready.is_set():
            step = (0.0, None) if self._link is not None else route.next(loop.time())
            if step is None:
                self._ended = cause
                self.perform(self._core.lost(cause, reconnect=True))
                return
            pause, at = step
            await asyncio.sleep(pause)
            try:
                await self._open(at)
            except GameServerError as failure:
                log.debug("still away: %s", failure)
                if self._ended is not None:
                    return
        for room in self._core.away:
            self._spawn(self._rejoin(room))

    async def _rejoin(self, room: RoomCore, *, pause: bool = False) -> None:
        """Join a room again that is away; on this connection, the next one starts anew."""
        policy, link, loop = self._policy, self._link, asyncio.get_running_loop()
        if policy is None or link is None:
            return
        since = loop.time()
        backoff = Backoff(policy, random.random, since)
        if pause:
            await asyncio.sleep(backoff.next(since) or 0)
        while self._link is link and room in self._core.away:
            try:
                await self._asked(lambda ticket: self._core.rejoin(room, ticket), f"joining {room.match_id!r} again")
                return
            except AnswerTimeout as failure:
                link.abort(failure)  # what it still answers would come too late for everyone
                return
            except GameServerError as error:
                if self._link is not link:
                    return
                seconds = backoff.next(loop.time()) if may_join_again(error, loop.time() - since) else None
                if seconds is None:
                    self.perform(self._core.end(room, error, reconnect=error.retryable))
                    return
                await asyncio.sleep(seconds)

    async def _follow(self, address: str) -> None:
        """Go to where the match is run, if that can be reached, and with nothing else on this connection."""
        try:
            link = await self._open_link(Address.parse(address))
        except (GameServerError, ValueError) as failure:
            log.info("not going to %s: %s", address, failure)
            return
        old = self._link
        if old is None or not self._ready.is_set() or self._policy is None or len(self.rooms) != 1:
            await link.close()
            return
        self._link = None
        self._ready.clear()
        moved = MatchMoved()
        self.perform(self._core.cut(moved))
        route = self._routed(self._policy, asyncio.get_running_loop().time())
        self._link = link  # from here on `close` knows of it
        self._returning = asyncio.create_task(self._come_back(route, moved), name="gameserver client: go")
        await old.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def perform(self, outcomes: Iterable[Outcome]) -> None:
        """Do what the core has decided."""
        for outcome in outcomes:
            match outcome:
                case Write(data):
                    if self._link is not None:
                        self._link.write(data)
                case Answered(ticket, value):
                    if isinstance(value, RoomCore):
                        self._opened(value)
                    if not ticket.done():
                        ticket.set_result(value)
                case Refused(ticket, error):
                    if not ticket.done():
                        ticket.set_exception(error)
                case ResendLater(core, attempt):
                    delay = min(RESEND_SECONDS_MAX, RESEND_SECONDS * 2 ** min(attempt, 32))
                    asyncio.get_running_loop().call_later(delay, self._resend, core)
                case Offered(_, address):
                    if self._direct and self._policy is not None and len(self.rooms) == 1:
                        self._spawn(self._follow(address))
                case _:
                    outcome.room.owner.told(outcome)
                    if isinstance(outcome, Disconnected) and self._link is not None:
                        self._spawn(self._rejoin(outcome.room, pause=True))  # the server let go of this match only

    def _resend(self, core: RoomCore) -> None:
        self.perform(core.resend())

    def _opened(self, core: RoomCore) -> None:
        self._rooms = [Room(self, core), *(room for room in self._rooms if room.busy)]
