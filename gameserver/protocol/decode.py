"""Bytes to messages. Whatever the bytes are, only a `ProtocolError` comes out of here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gameserver.errors import (
    FieldInvalid,
    MessageMalformed,
    MessageTooDeep,
    MessageTooLarge,
    MessageTypeUnknown,
    ProtocolError,
    ProtocolVersionUnsupported,
)
from gameserver.protocol.client_messages import CLIENT_MESSAGES, Action, ClientMessage, Hello, Join, Request
from gameserver.protocol.limits import DEFAULT_LIMITS, PROTOCOL_VERSION, Limits
from gameserver.protocol.payload import check_payload
from gameserver.protocol.server_messages import SERVER_MESSAGES, ServerMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

_client_decoder: Final[msgspec.msgpack.Decoder[ClientMessage]] = msgspec.msgpack.Decoder(ClientMessage)
_server_decoder: Final[msgspec.msgpack.Decoder[ServerMessage]] = msgspec.msgpack.Decoder(ServerMessage)

# Besides its own errors the decoder lets through what Python raises underneath: bad UTF-8, times out of range, nesting.
_DECODE_FAILURES: Final = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, ArithmeticError)

_MESSAGE_CHARS_MAX: Final = 200
_AT: Final = re.compile(r"^(?P<what>.*) - at `(?P<key>key` in `)?\$(?:\[(?P<index>\d+)\])?(?P<rest>[^`]*)`$", re.DOTALL)


def decode_client(data: bytes, limits: Limits = DEFAULT_LIMITS) -> ClientMessage:
    """One message from a client, checked: types, ranges, size, depth, and that payloads hold plain data only.

    Raises a `ProtocolError` whose message says which field is wrong and what was expected.
    """
    if len(data) > limits.message_bytes_max:
        raise MessageTooLarge(f"a message has at most {limits.message_bytes_max} bytes, this one has {len(data)}")
    try:
        message = _client_decoder.decode(data)
    except RecursionError:
        raise MessageTooDeep(f"expected at most {limits.depth_max} levels of nesting") from None
    except _DECODE_FAILURES as failure:
        raise _explain(failure, data, CLIENT_MESSAGES) from None
    if type(message) is Action:  # first: it is what nearly all messages are
        if message.args:
            check_payload(message.args, "action.args", 2, limits)
    elif type(message) is Hello:
        if message.version != PROTOCOL_VERSION:
            raise _version_unsupported(message.version)
        check_payload(message.info, "hello.info", 2, limits)
    elif type(message) is Join:
        check_payload(message.details.options, "join.details.options", 3, limits)
    elif type(message) is Request:
        check_payload(message.params, "request.params", 2, limits)
    return message


def decode_args(data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Any] | dict[str, Any]:
    """The arguments of what `peek_action` took for an action, decoded and checked."""
    message = decode_client(data, limits)
    assert isinstance(message, Action), "an action's frame holds an action"  # noqa: S101 - the same bytes
    return message.args


def decode_server(data: bytes) -> ServerMessage:
    """One message from a server. Raises `MessageTypeUnknown` for types that came later (skip them), else other ones."""
    try:
        return _server_decoder.decode(data)
    except RecursionError:
        raise MessageTooDeep("the message is nested too deeply to be decoded") from None
    except _DECODE_FAILURES as failure:
        raise _explain(failure, data, SERVER_MESSAGES) from None


# --- saying what was wrong: only on the way out, so it may take its time ----------------------------------------------
def _explain(failure: Exception, data: bytes, messages: Mapping[int, type[msgspec.Struct]]) -> ProtocolError:
    if not isinstance(failure, msgspec.ValidationError):
        return MessageMalformed(f"the message is not one well-formed msgpack value: {_clip(str(failure))}")
    number = _type_number(data)
    if number is None:
        return MessageMalformed("expected an array that begins with the message type, a small integer")
    message_class = messages.get(number)
    if message_class is None:
        return MessageTypeUnknown(f"there is no message type {number}")
    if message_class is Hello:
        version = _hello_version(data)
        if version is not None and version != PROTOCOL_VERSION:  # its other fields may differ: not the point then
            return _version_unsupported(version)
    return FieldInvalid(_clip(_name_field(str(failure), message_class)))


def _name_field(text: str, message_class: type[msgspec.Struct]) -> str:
    """Put field names where the decoder's text has positions: "expected `int`, got `str` - at `$[2]`" is no help."""
    message_name = message_class.__name__.removesuffix("Message").lower()
    found = _AT.match(text)
    if found is None:
        if "at most length" in text:  # the decoder's own count leaves out the type
            return f"{message_name}: expected an array of at most {len(message_class.__struct_fields__) + 1} elements"
        return f"{message_name}: {_lower_first(text)}"
    where = message_name
    if found["index"] is not None:
        index = int(found["index"])
        fields = message_class.__struct_fields__
        where += f".{fields[index - 1]}" if 1 <= index <= len(fields) else f"[{index}]"
    where += found["rest"].replace("[...]", "")
    if found["key"]:
        where += " (a key)"
    return f"{where}: {_lower_first(found['what'])}"


def _type_number(data: bytes) -> int | None:
    """The message type, read by hand from the first bytes; None where there is none to be read."""
    first = data[0] if data else 0
    start = 1 if 0x90 <= first <= 0x9F else {0xDC: 3, 0xDD: 5}.get(first)
    if start is None or first == 0x90 or len(data) <= start:
        return None
    number = data[start]
    if number <= 0x7F:
        return number
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(number)
    if width is None or len(data) < start + 1 + width:
        return None
    return int.from_bytes(data[start + 1 : start + 1 + width], "big")


def _hello_version(data: bytes) -> int | None:
    try:
        message = msgspec.msgpack.decode(data)
    except (RecursionError, *_DECODE_FAILURES):
        return None
    version = message[1] if isinstance(message, list) and len(message) > 1 else None
    return version if type(version) is int else None


def _version_unsupported(version: int) -> ProtocolVersionUnsupported:
    return ProtocolVersionUnsupported(f"this server speaks protocol version {PROTOCOL_VERSION}, not {version}")


def _clip(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARS_MAX else text[:_MESSAGE_CHARS_MAX] + "…"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
