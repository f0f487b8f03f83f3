"""What bad input gets: a specific error or a documented close code, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from gameserver.access import Role
from gameserver.app import Application
from gameserver.errors import close_code_table
from gameserver.protocol import (
    Ack,
    Action,
    ErrorMessage,
    Frame,
    Hello,
    Join,
    Leave,
    Ping,
    Pong,
    Reply,
    Request,
    Welcome,
)
from tests.web.conftest import Opener
from tests.web.kit import token

DOCUMENTED = {row.close_code for row in close_code_table()}


async def ends_with(client: Any, code: str, close_code: int) -> ErrorMessage:
    """The error is told, then the connection closes with the documented code."""
    closed = await client.closed()
    errors = [message for message in client.seen if isinstance(message, ErrorMessage)]
    assert [error.code for error in errors] == [code]
    assert closed == close_code
    assert close_code in DOCUMENTED
    assert "Traceback" not in errors[0].message
    return errors[0]


HELLO = [1, 1, "TOKEN", {}]
BEFORE_HELLO = [
    pytest.param([2, 1, "game", "board", {}], "hello_expected", 4401, id="join first"),
    pytest.param([3, 1, 1, "move", [1], 0], "hello_expected", 4401, id="action first"),
    pytest.param([6, 1], "hello_expected", 4401, id="ping first"),
    pytest.param([1, 1, None, {}], "authentication_required", 4001, id="no token"),
    pytest.param([1, 1, "", {}], "authentication_required", 4001, id="empty token"),
    pytest.param([1, 1, "nonsense", {}], "token_invalid", 4003, id="not a token"),
    pytest.param([1, 1, token(secret="x" * 40), {}], "token_invalid", 4003, id="another's token"),
    pytest.param([1, 1, token(ttl_seconds=-100), {}], "token_expired", 4003, id="expired"),
    pytest.param([1, 9, None, {}], "protocol_version", 4426, id="protocol of the future"),
    pytest.param(b"", "message_malformed", 4400, id="empty"),
    pytest.param(b"\xc1", "message_malformed", 4400, id="no msgpack"),
    pytest.param(b"\xdd\xff\xff\xff\xff", "message_malformed", 4400, id="array without end"),
    pytest.param([99, 1], "message_type_unknown", 4400, id="unknown type"),
    pytest.param({"type": 1}, "message_malformed", 4400, id="a map"),
]


@pytest.mark.parametrize(("message", "code", "close_code"), BEFORE_HELLO)
async def test_before_the_hello(connect: Opener, message: Any, code: str, close_code: int) -> None:
    client = await connect(None)
    await client.send_raw(message)
    await ends_with(client, code, close_code)


AFTER_HELLO = [
    pytest.param([1, 1, token(), {}], "hello_repeated", 4400, id="second hello"),
    pytest.param([3, "one", 1, "move", [], 0], "field_invalid", 4400, id="channel is a text"),
    pytest.param([3, 1, 0, "move", [], 0], "field_invalid", 4400, id="seq zero"),
    pytest.param([3, 1, 1, "move", "args", 0], "field_invalid", 4400, id="args are a text"),
    pytest.param([3, 1, 1, "move", [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]], 0], "message_too_deep", 4400, id="too deep"),
    pytest.param([3, 1, 1, "move", [0] * 5_000, 0], "field_invalid", 4400, id="too many"),
    pytest.param([3, 1, 1, "move", ["x" * 20_000], 0], "field_invalid", 4400, id="text too long"),
    pytest.param([2, 1, "steal", "board", {}], "field_invalid", 4400, id="unknown kind of join"),
    pytest.param([3, 1, 1, "move", ["x" * 70_000], 0], "message_too_large", 4413, id="too large"),
    pytest.param(b"\x00" * 300_000, "message_too_large", 4413, id="far too large"),
]


@pytest.mark.parametrize(("message", "code", "close_code"), AFTER_HELLO)
async def test_after_the_hello(connect: Opener, message: Any, code: str, close_code: int) -> None:
    client = await connect()
    bystander = await connect("bob")
    joined = await bystander.join("board")
    await client.send_raw(message)
    await ends_with(client, code, close_code)
    assert (await bystander.act(joined.channel, "move", 1)).ok


async def test_text_frames_are_refused(connect: Opener) -> None:
    client = await connect()
    await client.socket.send_str("hello?")
    await ends_with(client, "text_frame", 4402)


async def test_who_says_nothing_is_closed(app: Application, connect: Opener) -> None:
    policy = app.web.connections.limits.policy
    policy.hello_timeout_seconds = 0.2
    client = await connect(None)
    await ends_with(client, "hello_timeout", 4505)


async def test_a_flood_of_messages_is_ended(connect: Opener) -> None:
    client = await connect()
    bystander = await connect("bob")
    for number in range(400):
        await client.send(Ping(number))
    await ends_with(client, "budget_exceeded", 4429)
    await bystander.send(Ping(1))
    assert (await bystander.expect(Pong)).nonce == 1


BAD_ACTIONS = [
    pytest.param("nope", [], "action_unknown", id="unknown"),
    pytest.param(99, [], "action_unknown", id="unknown number"),
    pytest.param("on_join", [], "action_unknown", id="a hook"),
    pytest.param("__init__", [], "action_unknown", id="a dunder"),
    pytest.param("move", ["far"], "action_invalid", id="wrong type"),
    pytest.param("move", [1.5], "action_invalid", id="float for int"),
    pytest.param("move", [], "action_invalid", id="missing"),
    pytest.param("move", [1, 2], "action_invalid", id="extra"),
    pytest.param("move", {"dy": 1}, "action_invalid", id="unknown name"),
    pytest.param("no", [], "action_refused", id="refused by the game"),
    pytest.param("boom", [], "game_error", id="the game fails"),
]


@pytest.mark.parametrize(("name", "args", "code"), BAD_ACTIONS)
async def test_a_bad_action_gets_an_error_and_the_match_goes_on(
    connect: Opener, name: Any, args: Any, code: str
) -> None:
    client = await connect()
    joined = await client.join("board")
    await client.send(Action(joined.channel, 1, name, args))
    ack = await client.expect(Ack)
    assert (ack.seq, ack.status, ack.result[0]) == (1, 1, code)
    assert b"SECRET-DETAIL" not in b"".join(client.raw)
    client.seq = 1
    assert (await client.act(joined.channel, "ring")).result == 1  # not 1,000,000: the failure left nothing behind


async def test_numbering(connect: Opener) -> None:
    """Gaps and reuse are errors; a duplicate gets its stored result and has no effect."""
    client = await connect()
    channel = (await client.join("board")).channel
    await client.send(Action(channel, 2, "ring", []))
    assert (await client.expect(Ack)).result[0] == "seq_gap"
    assert (await client.act(channel, "ring")).result == 1
    await client.send(Action(channel, 1, "ring", []))
    again = await client.expect(Ack)
    assert (again.ok, again.result) == (True, 1)
    await client.send(Action(channel, 1, "ring", [5]))
    assert (await client.expect(Ack)).result[0] == "seq_reused"
    assert (await client.act(channel, "ring")).result == 2


async def test_a_channel_that_was_not_joined(connect: Opener) -> None:
    """Another's channel number is no way into another's match."""
    alice, mallory = await connect("alice"), await connect("mallory")
    channel = (await alice.join("board")).channel
    await mallory.send(Action(channel, 1, "ring", []))
    assert (await mallory.expect(Ack)).result[0] == "not_joined"
    await mallory.send(Leave(7, channel))
    error = await mallory.expect(ErrorMessage)
    assert (error.request, error.code) == (7, "not_joined")
    assert (await alice.act(channel, "ring")).result == 1


BAD_JOINS = [
    pytest.param("game", "nope", {}, "game_not_found", id="no such game"),
    pytest.param("create", "nope", {}, "game_not_found", id="create no such game"),
    pytest.param("match", "nope", {}, "match_not_found", id="no such match"),
    pytest.param("game", "board", {"options": {"fail": True}}, "game_error", id="the game cannot be made"),
]


@pytest.mark.parametrize(("kind", "name", "details", "code"), BAD_JOINS)
async def test_a_bad_join_is_an_answer(connect: Opener, kind: str, name: str, details: Any, code: str) -> None:
    client = await connect()
    await client.send_raw([2, 5, kind, name, details])
    error = await client.expect(ErrorMessage)
    assert (error.request, error.code) == (5, code)
    await client.send(Ping(1))
    await client.expect(Pong)


async def test_unwelcome_and_full(connect: Opener) -> None:
    match = (await (await connect("p0")).join("board")).info.match
    unwelcome = await connect("unwelcome", name="Unwelcome")
    await unwelcome.send(Join(1, "match", match))
    error = await unwelcome.expect(ErrorMessage)
    assert (error.code, error.message) == ("join_refused", "you are not welcome")
    for number in (1, 2):
        await (await connect(f"p{number}")).join(match, "match")
    late = await connect("late")
    await late.send(Join(1, "match", match))
    assert (await late.expect(ErrorMessage)).code == "match_full"
    assert (await late.join("board")).info.match != match


async def test_spectators_have_no_actions(connect: Opener) -> None:
    alice, watcher = await connect("alice"), await connect("watcher")
    joined = await alice.join("board")
    watching = await watcher.join(joined.info.match, "match", spectate=True)
    assert watching.info.spectator
    await watcher.send(Action(watching.channel, 1, "ring", []))
    assert (await watcher.expect(Ack)).result[0] == "permission_denied"
    await alice.act(joined.channel, "move", 3)
    await watcher.expect(Frame)
    assert b"secret-of-alice" not in b"".join(watcher.raw)
    assert b"NEVER-ON-THE-WIRE" not in b"".join(watcher.raw + alice.raw)


async def test_requests(connect: Opener) -> None:
    client = await connect("alice")
    await client.join("board")
    await client.send(Request(9, "matches", {"game": "board"}))
    reply = await client.expect(Reply)
    assert (reply.request, len(reply.result["matches"])) == (9, 1)
    for method, params, code in [
        ("nope", {}, "not_found"),
        ("matches", {"limit": 10_000}, "request_invalid"),
        ("matches", {"colour": "red"}, "request_invalid"),
        ("match", {}, "request_invalid"),
        ("update_profile", {"profile": 5}, "request_invalid"),
    ]:
        await client.send(Request(10, method, params))
        error = await client.expect(ErrorMessage)
        assert (error.request, error.code) == (10, code)


async def test_channels_are_limited(app: Application, connect: Opener) -> None:
    client = await connect()
    for number in range(app.settings.limits.channels_max):
        await client.send(Join(number, "create", "board"))
    joined = 0
    while joined < app.settings.limits.channels_max:
        joined += type(await client.next()).__name__ == "Joined"
    await client.send(Join(99, "create", "board"))
    error = await client.expect(ErrorMessage)
    assert (error.request, error.code) == (99, "limit_reached")


async def test_connections_are_limited(app: Application, connect: Opener) -> None:
    object.__setattr__(app.web.connections.limits, "connections_max", 1)
    await connect("first")
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{app.url}/v1/ws")
    assert refused.value.status == 503


async def test_garbage_instead_of_websocket_frames(app: Application, connect: Opener) -> None:
    """Broken framing, a handshake that stops in the middle, plain HTTP: each its own connection's problem."""
    bystander = await connect("bob")
    url = app.url.removeprefix("http://")
    host, port = url.split(":")
    unfinished = b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    for attack in (b"\x00" * 64, unfinished, b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n"):
        _reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(attack)
        await asyncio.sleep(0.05)
        writer.close()
    client = await connect()
    transport = client.socket._response.connection.transport  # frames that no WebSocket library would send
    transport.write(b"\xff\xff\xff\xff")
    assert await client.closed() == 1002
    await bystander.send(Ping(1))
    await bystander.expect(Pong)


async def test_permissions(connect: Opener) -> None:
    """A guest may not write a profile, over the socket as over HTTP."""
    client = await connect(None)
    await client.send(Hello(token=token("gast", Role.GUEST)))
    await client.expect(Welcome)
    await client.send(Request(1, "update_profile", {"profile": {"a": 1}}))
    assert (await client.expect(ErrorMessage)).code == "permission_denied"


async def test_every_message_type_with_random_bytes(app: Application, connect: Opener) -> None:
    """Fuzz from the wire: the server never answers with anything but errors, and lives."""
    import random

    dice = random.Random(7)
    sample = msgspec.msgpack.encode([3, 1, 1, "move", [1, "x", None, {"a": [1.5]}], 0])
    for _ in range(60):
        client = await connect("fuzz")
        for _ in range(5):
            data = bytearray(sample)
            for _ in range(dice.randint(1, 6)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            await client.send_raw(bytes(data))
        await client.send(Ping("last"))
        try:
            while not isinstance(await client.next(), Pong):
                pass
        except ConnectionError:
            assert client.socket.close_code in DOCUMENTED
        await client.close()
        for message in client.seen:
            assert isinstance(message, Welcome | ErrorMessage | Ack | Pong | Reply)
    assert app.host.overdue() == []
