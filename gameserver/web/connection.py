"""One client's connection: messages in, frames out, and nothing that one client does reaches another.

`feed` handles a message synchronously, from decoding to the game's own method; only what has to wait (joins, requests)
runs as a task. `write` takes frames that are built already and shared with other connections.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from zlib import crc32

import structlog

from gameserver.cluster import Flow, User
from gameserver.errors import (
    BudgetExceeded,
    GameServerError,
    HelloTimeout,
    InternalError,
    MessageTooLarge,
    NotJoined,
    ProtocolError,
    SlowConsumer,
    TextFrameRefused,
    close_code_of,
)
from gameserver.protocol import (
    PING_FRAME,
    PROTOCOL_VERSION,
    QUIET,
    Hello,
    Join,
    Leave,
    Ping,
    Request,
    decode_args,
    decode_client,
    encode_failure,
    encode_pong,
    encode_refusal,
    encode_reply,
    encode_welcome,
    pong_frame,
    ws_frame,
)
from gameserver.protocol.peek import peek_action
from gameserver.session.connection import SessionMachine
from gameserver.web.link import Listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gameserver.cluster import Args
    from gameserver.cluster.member import Member
    from gameserver.protocol import ClientMessage
    from gameserver.protocol.peek import ActionHead
    from gameserver.web.connections import Connections
    from gameserver.web.link import Link

log = structlog.get_logger("gameserver.web")

EARLY_ACTIONS_MAX = 256  # a client has at most its window of 64 under way in each match
NO_CHANNEL = -1
MESSAGE_TOO_BIG = 1009  # RFC 6455
CLOSE_REASON_BYTES_MAX = 123  # a control frame has at most 125 bytes, two of them the code


class Connection(Listener):
    """A `Receiver` for the host, and a `Listener` for what arrives."""

    __slots__ = (
        "_counts",
        "_early",
        "_hard_max",
        "_hello_timer",
        "_joining",
        "_last_channel",
        "_last_member",
        "_limits",
        "_link",
        "_machine",
        "_members",
        "_server",
        "_short_max",
        "_tasks",
        "_transport",
        "close_code",
        "ending",
        "id",
        "pinged_at",
        "user",
    )

    def __init__(
        self,
        id: str,
        server: Connections,
        transport: asyncio.Transport,
        link: Link,
    ) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        super().__init__(heard_at=now)
        self.id = id
        self.user: User | None = None
        self.close_code: int | None = None
        self.ending: asyncio.Task[None] | None = None
        self._server = server
        self._transport = transport
        self._link = link
        self._limits = server.limits.messages
        self._short_max = self._limits.short_bytes_max
        self._counts = server.counts
        # Past this even answers are not buffered any more: a client that asks and asks and never reads.
        self._hard_max = 2 * server.limits.send_buffer_bytes_max
        self._joining = 0
        self._early: list[tuple[ActionHead, bytes]] = []
        """Actions that came while a join was under way: its answer may be out, and the channel not open here yet."""
        self._tasks: set[asyncio.Task[None]] | None = None  # most connections have none, most of the time
        self.pinged_at = now
        """When it was pinged last."""
        self._machine = SessionMachine(server.limits.policy, now=now)
        self._members: dict[int, Member] = self._machine.channels
        # What was found for the message before, nearly always of the same channel; forgotten when a channel changes.
        self._last_channel = NO_CHANNEL
        self._last_member: Member | None = None
        self._hello_timer: asyncio.TimerHandle | None = loop.call_at(self._machine.hello_deadline, self._hello_late)

    # --- out: what the host calls ------------------------------------------------------------------------------------
    def write(self, frames: Sequence[bytes]) -> None:
        """Send prebuilt frames with one transport write."""
        if self.ending is not None:
            return
        if self._link.buffered_bytes() > self._hard_max:
            self.abort(close_code_of(SlowConsumer), "it does not read its answers")
            return
        try:
            self._link.write_all(frames)
        except (RuntimeError, OSError) as gone:  # uvloop raises RuntimeError on a transport that has just closed
            log.debug("write_to_closed", connection=self.id, error=str(gone))

    def try_write(self, frame: bytes, buffered_bytes_max: int) -> bool:
        """Send one prebuilt frame, unless it lags: see `Receiver`."""
        if self.buffered_bytes() > buffered_bytes_max:
            return False
        if self.ending is None:
            try:
                self._link.write(frame)
            except (RuntimeError, OSError) as gone:  # see `write`
                log.debug("write_to_closed", connection=self.id, error=str(gone))
        return True

    def buffered_bytes(self) -> int:
        """Bytes that wait for the peer: see `Link`."""
        return self._link.buffered_bytes()

    def ping(self, now: float) -> None:
        """Ask whether the client is there: bytes that arrive from now on are an answer, whatever they are."""
        self.pinged_at = now
        self.write((PING_FRAME,))

    def detached(self, channel: int) -> None:
        """The host took the channel away."""
        self._machine.close_channel(channel)
        self._forget_member()
        self._server.moved(self)

    def abort(self, close_code: int, reason: str) -> None:
        """End it whether the peer reads or not: it gets a moment to see the code, then the transport is cut."""
        log.info("connection_aborted", connection=self.id, user=self._user_id, code=close_code, reason=reason)
        self.close(close_code, reason, seconds=min(1.0, self._server.limits.close_seconds))

    def match_ids(self) -> list[str]:
        """The matches that it carries a session of."""
        return [member.hosted.match_id for member in self._members.values()]

    # --- in ----------------------------------------------------------------------------------------------------------
    def feed(self, data: bytes) -> None:
        """One binary message. Never raises."""
        if self.ending is not None:
            return
        counts, size = self._counts, len(data)
        try:
            self._machine.admit(size, self.heard_at)
            counts.bytes += size
            action = peek_action(data)
            if action is None:
                self._handle(decode_client(data, self._limits))
                return
            counts.actions += 1
            if action.channel == self._last_channel:
                member = self._last_member
            else:
                member = self._find_member(action.channel)
            if member is None:
                self._stray(action, data)
            else:  # who has joined was welcomed: nearly all messages end here
                self._act(member, action, data)
        except GameServerError as error:
            self.fail(error)
        except Exception as failure:
            log.error("message_failed", connection=self.id, user=self._user_id, exc_info=failure)
            self.fail(InternalError())

    def _find_member(self, channel: int) -> Member | None:
        self._last_channel, self._last_member = channel, self._members.get(channel)
        return self._last_member

    def _forget_member(self) -> None:
        self._last_channel, self._last_member = NO_CHANNEL, None

    def _act(self, member: Member, action: ActionHead, data: bytes) -> None:
        hosted = member.hosted
        spec = hosted.actions.get(action.name)
        args: Args | None = None
        if spec is not None and len(data) <= self._short_max:
            args = spec.read(action.args)
        if args is None and len(data) <= self._short_max:
            args = hosted.pass_on(action.args)
        if args is None:
            args = decode_args(data, self._limits)
        hosted.receive(member, action.seq, action.name, args, action.flags == QUIET, crc32(action.args), self.heard_at)

    def _stray(self, action: ActionHead, data: bytes) -> None:
        """An action for a channel that is not open (yet)."""
        if not self._machine.accept(decode_client(data, self._limits)):
            return
        if self._joining and len(self._early) < EARLY_ACTIONS_MAX:
            self._early.append((action, data))
            return
        error = NotJoined(f"this connection has not joined channel {action.channel}")
        self.write((ws_frame(encode_refusal(action.channel, action.seq, 0, error)),))

    def _handle(self, message: ClientMessage) -> None:
        self._counts.other(type(message))
        if self._machine.accept(message):
            _HANDLERS[type(message)](self, message)

    def fail(self, error: GameServerError, request: int | None = None) -> None:
        """Tell the client; an error of the connection as a whole ends it with the documented code."""
        self.tell(error, request)
        if request is None and (error.close_code is not None or isinstance(error, ProtocolError)):
            self.close(close_code_of(error), error.message)

    def tell(self, error: GameServerError, request: int | None = None) -> None:
        """Only tell the client."""
        self._server.metrics.errors_sent_total.labels(error.code).inc()
        self.write((ws_frame(encode_failure(request, error)),))

    def feed_text(self) -> None:
        """A text message: there are none."""
        self.fail(TextFrameRefused())

    def feed_ping(self, payload: bytes) -> None:
        """The WebSocket's own ping. It is answered, so it counts as a message."""
        if self.ending is not None:
            return
        try:
            self._machine.admit(len(payload), self.heard_at)
        except BudgetExceeded as error:
            self.fail(error)
        else:
            self.write((pong_frame(payload),))

    def too_large(self) -> MessageTooLarge:
        """What a message is refused with whose frames say that it will be."""
        return MessageTooLarge(f"a message has at most {self._limits.message_bytes_max} bytes")

    def unreadable(self, close_code: int) -> None:
        """What arrives is no WebSocket, or too large."""
        if close_code == MESSAGE_TOO_BIG:
            self.fail(self.too_large())
        else:
            self.close(close_code, "")

    def peer_closed(self, close_code: int) -> None:
        """The client closes."""
        self.close(close_code, "")

    def gone(self) -> None:
        """The transport is closed."""
        self._server.closed(self)

    def _on_hello(self, message: Hello) -> None:
        self._stop_hello_timer()
        claims = self._server.authenticator.claims(message.token)
        self._machine.welcome(claims)
        self.user = User(claims.user_id, claims.name, str(claims.role))
        limits = self._limits
        info = {
            "connection": self.id,
            "user": claims.user_id,
            "role": str(claims.role),
            "name": claims.name,
            "server_time_ms": _wall_ms(),
            "protocol": PROTOCOL_VERSION,
            "limits": {
                "message_bytes_max": limits.message_bytes_max,
                "depth_max": limits.depth_max,
                "items_max": limits.items_max,
                "string_bytes_max": limits.string_bytes_max,
                "channels_max": self._machine.policy.channels_max,
                "messages_per_second": self._machine.policy.messages_per_second,
                "heartbeat_seconds": self._server.limits.heartbeat_seconds,
            },
        }
        self.write((ws_frame(encode_welcome(info)),))
        self._server.greeted(self)
        log.debug("connection_greeted", connection=self.id, user=claims.user_id, role=str(claims.role))

    def _on_join(self, message: Join) -> None:
        self._answer(message.request, lambda: self._join(message))

    async def _join(self, message: Join) -> None:
        self._joining += 1
        try:
            await self._join_host(message)
        finally:
            self._joining -= 1
            early, self._early = self._early, []
            for action, data in early:
                member = self._members.get(action.channel)
                if member is None:
                    self._stray(action, data)
                else:
                    self._act(member, action, data)

    async def _join_host(self, message: Join) -> None:
        self._machine.check_join(message)
        assert self.user is not None  # noqa: S101 - check_join refuses who has not said hello
        member = await self._server.host.join(
            message.kind,
            message.name,
            self.user,
            self,
            message.request,
            options=message.options,
            spectate=message.spectate,
            resume=message.resume,
        )
        if self.ending is not None or self._transport.is_closing():
            member.lost()
            return
        if member.flow is Flow.GONE:
            return  # the host has taken it away again meanwhile, and said so
        try:
            self._machine.open_channel(member.channel, member)
            self._forget_member()
        except GameServerError:
            if message.resume is None:
                member.leave("refused")
            else:
                member.lost()  # the seat is not this connection's to give up
            raise
        self._server.moved(self)

    def _on_leave(self, message: Leave) -> None:
        self._answer(message.request, lambda: self._leave(message))

    async def _leave(self, message: Leave) -> None:
        member = self._machine.session_of(message.channel)
        self.detached(message.channel)
        member.leave()
        self.write((ws_frame(encode_reply(message.request)),))

    def _on_request(self, message: Request) -> None:
        self._answer(message.request, lambda: self._request(message))

    async def _request(self, message: Request) -> None:
        assert self._machine.claims is not None  # noqa: S101 - `accept` refuses requests before the hello
        result = await self._server.answer(self._machine.claims, message.method, message.params)
        self.write((ws_frame(encode_reply(message.request, result)),))

    def _on_ping(self, message: Ping) -> None:
        self.write((ws_frame(encode_pong(message.nonce, _wall_ms())),))

    def _answer(self, request: int, work: Callable[[], Awaitable[None]]) -> None:
        """Run what answers a request; whatever goes wrong is the answer, and the connection goes on."""
        try:
            self._machine.open_request(request)
        except GameServerError as error:
            self.fail(error, request)
            return
        task = asyncio.get_running_loop().create_task(self._run(request, work))
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        if self._tasks is not None:
            self._tasks.discard(task)
            self._tasks = self._tasks or None

    async def _run(self, request: int, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except GameServerError as error:
            self.fail(error, request)
        except Exception as failure:
            log.error("request_failed", connection=self.id, user=self._user_id, exc_info=failure)
            self.fail(InternalError(), request)
        finally:
            self._machine.close_request(request)

    # --- the end -----------------------------------------------------------------------------------------------------
    def close(self, close_code: int, reason: str, *, seconds: float | None = None) -> asyncio.Task[None]:
        """Close with this code; a peer that does not answer in time is cut off. Once: the first code counts."""
        if self.ending is None:
            self.close_code = close_code
            self._machine.close()
            self._stop_hello_timer()
            self._server.moved(self)
            limit = self._server.limits.close_seconds if seconds is None else seconds
            self.ending = asyncio.get_running_loop().create_task(self._end(close_code, reason, limit))
        return self.ending

    async def _end(self, close_code: int, reason: str, seconds: float) -> None:
        text = reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore").encode()
        try:
            async with asyncio.timeout(seconds):
                await self._link.close(close_code, text)
        except (TimeoutError, OSError, RuntimeError) as gone:
            log.debug("close_unanswered", connection=self.id, error=str(gone) or type(gone).__name__)
        finally:
            # Whatever is still buffered goes with the transport: without this it would stay for a peer that is gone.
            self._transport.abort()

    def lost(self) -> None:
        """The socket is gone: seats are kept for a while, what was being answered is dropped."""
        self._stop_hello_timer()
        self._machine.close()
        members = list(self._members.values())
        self._members.clear()
        self._forget_member()
        for member in members:
            member.lost()
        for task in self._tasks or ():
            task.cancel()
        if self.ending is None:
            self._transport.abort()

    def _hello_late(self) -> None:
        self._hello_timer = None
        try:
            self._machine.check_hello_deadline(self._server.now())
        except HelloTimeout as error:
            self.fail(error)

    def _stop_hello_timer(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None

    @property
    def _user_id(self) -> str | None:
        return None if self.user is None else self.user.id


def _wall_ms() -> int:
    return int(time.time() * 1000)


_HANDLERS: dict[type[ClientMessage], Callable[[Connection, Any], None]] = {
    Hello: Connection._on_hello,
    Join: Connection._on_join,
    Leave: Connection._on_leave,
    Request: Connection._on_request,
    Ping: Connection._on_ping,
}
