"""The client: one connection to a server, and the rooms on it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import aiohttp

from gameserver.client.address import Address
from gameserver.client.core import (
    ActionFailed,
    Answered,
    Changed,
    ClientCore,
    Ended,
    Happened,
    JoinKind,
    Outcome,
    Refused,
    ResendLater,
    RoomCore,
    Write,
)
from gameserver.client.errors import AnswerTimeout, ConnectionClosed, ServerError, error_from
from gameserver.client.link import Link, unreachable
from gameserver.client.room import Room
from gameserver.errors import GameServerError
from gameserver.protocol import JoinDetails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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

    `url` is where the server is (`http://host:port`, `https://…`, `ws://…`, `wss://…`). `token` says who you are; a
    server in development mode also gives out guest tokens, and that is what happens without one: you are a guest
    called `name`, with a new id for each client. `timeout_seconds` bounds how long connecting, joining and requests
    may take; actions are not bounded, their answer may rightly have to wait for the match.

    Not used to asyncio? Put your code in `async def main():`, start it with `asyncio.run(main())`, write `await` in
    front of whatever asks the server something, and `await asyncio.sleep(…)` where you would have called
    `time.sleep`: while your code is between two awaits nothing is received.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        name: str | None = None,
        timeout_seconds: float = 10.0,
        heartbeat_seconds: float = 15.0,
    ) -> None:
        self._address = Address.parse(url)
        self._token = token
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._core = ClientCore()
        self._http: aiohttp.ClientSession | None = None
        self._link: Link | None = None
        self._ended: GameServerError | None = None
        self._rooms: list[Room] = []  # open, or with callbacks that still run

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
            if self._token is None:
                self._token = await self._guest_token(self._http)
            self._link = await Link.open(
                self._http,
                self._address.websocket,
                heartbeat_seconds=self._heartbeat_seconds,
                timeout=self._timeout_seconds,
            )
            self._link.start(self._received, self._lost)
            welcome: WelcomeInfo = await self._asked(
                lambda ticket: self._core.hello(self._token, HELLO_INFO, ticket), "the hello"
            )
            if allowed := welcome.limits.get("messages_per_second"):
                self._link.pace(allowed)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection and all rooms on it. Seats are held for a while: `room.leave()` gives one up."""
        if self._ended is None:
            self._ended = ConnectionClosed()
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        for room in self._rooms:
            await room.finish()
        self._rooms.clear()
        if self._http is not None:
            await self._http.close()

    async def _guest_token(self, http: aiohttp.ClientSession) -> str | None:
        """Ask for a guest token; None when this server gives none, and the hello will say what is needed."""
        url = f"{self._address.http}/v1/auth/guest"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                body = {"name": self._name} if self._name else {}
                async with http.post(url, json=body) as response:
                    if response.status >= 500:
                        raise await _http_error(response)
                    if response.status >= 400:
                        log.debug("no guest token from %s: %s", url, response.status)
                        return None
                    answer = await response.json()
                    return str(answer["token"])
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            raise unreachable(self._address.http, failure) from failure

    # --- who and how --------------------------------------------------------------------------------------------------
    @property
    def connected(self) -> bool:
        """Is the connection open and the hello answered?"""
        return self._ended is None and self._core.info is not None

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
        return [core.owner for core in self._core.rooms.values() if core.owner is not None]

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

    async def _joined(
        self, kind: JoinKind, name: str, options: dict[str, Any] | None, *, spectate: bool
    ) -> Room:
        details = JoinDetails(options=options or {}, spectate=spectate)
        core = await self._asked(lambda ticket: self._core.join(kind, name, details, ticket), f"joining {name!r}")
        room: Room = core.owner
        return room

    async def leave(self, room: RoomCore) -> None:
        """Give up a seat (`room.leave()` calls this)."""
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

    async def _asked(self, encode: Callable[[asyncio.Future[Any]], bytes], what: str) -> Any:
        """Send a question and wait for its answer, within the time limit."""
        if self._ended is not None or self._link is None:
            raise self._ended or ConnectionClosed(NOT_CONNECTED)
        ticket = self.ticket()
        try:
            self._link.write(encode(ticket))
            async with asyncio.timeout(self._timeout_seconds):
                return await ticket
        except TimeoutError:
            raise AnswerTimeout(f"no answer to {what} within {self._timeout_seconds:g} s") from None
        finally:
            self._core.forget(ticket)

    def _received(self, data: bytes) -> None:
        self.perform(self._core.receive(data))

    def _lost(self, error: GameServerError, reconnect: bool) -> None:
        """The connection is gone: everybody who waits learns why."""
        if self._ended is None:
            self._ended = self._core.last_error or error
        self.perform(self._core.lost(self._ended, reconnect=reconnect))

    def perform(self, outcomes: Iterable[Outcome]) -> None:
        """Do what the core has decided."""
        for outcome in outcomes:
            match outcome:
                case Write(data):
                    if self._link is not None:
                        self._link.write(data)
                case Changed(core):
                    core.owner.changed()
                case Happened(core, name, data):
                    core.owner.happened(name, data)
                case Answered(ticket, value):
                    if isinstance(value, RoomCore):
                        self._opened(value)
                    if not ticket.done():
                        ticket.set_result(value)
                case Refused(ticket, error):
                    if not ticket.done():
                        ticket.set_exception(error)
                case ActionFailed(core, name, error):
                    core.owner.action_failed(name, error)
                case ResendLater(core, attempt):
                    delay = min(RESEND_SECONDS_MAX, RESEND_SECONDS * 2**attempt)
                    asyncio.get_running_loop().call_later(delay, self._resend, core)
                case Ended(core, error, reconnect):
                    core.owner.ended(error, reconnect=reconnect)

    def _resend(self, core: RoomCore) -> None:
        self.perform(core.resend())

    def _opened(self, core: RoomCore) -> None:
        self._rooms = [Room(self, core), *(room for room in self._rooms if room.busy)]


async def _http_error(response: aiohttp.ClientResponse) -> GameServerError:
    """The error in an HTTP answer."""
    try:
        error = (await response.json())["error"]
        return error_from(error["code"], error["message"], retryable=bool(error.get("retryable")))
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        return ServerError("http_error", f"{response.url} answered {response.status}", retryable=response.status >= 500)
