"""Bytes of a WebSocket to whole messages. Sans-I/O: RFC 6455 as a server reads it, without extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp._websocket.helpers import websocket_mask as websocket_mask  # changes a bytearray

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80
RESERVED: Final = 0x70
MASKED: Final = 0x80
CONTROL_BYTES_MAX: Final = 125

WHOLE_BINARY: Final = FIN | BINARY
SMALL_HEAD_BYTES: Final = 6
"""Two bytes and the mask: the head of a frame whose payload has at most 125 bytes."""
SMALL_MAX: Final = MASKED | CONTROL_BYTES_MAX
"""The most that the second byte of such a frame can be."""

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
INVALID_TEXT: Final = 1007
TOO_BIG: Final = 1009
LOOP_BYTES_MAX: Final = -1 if __file__.endswith(".py") else 64
"""Compiled, a loop of our own has unmasked what is short before aiohttp's function would be called."""

CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""What a peer may close with, beside the codes from 3000 on."""


class FrameError(Exception):
    """What arrives is no WebSocket, or too large: nothing after it can be read."""

    def __init__(self, close_code: int, what: str) -> None:
        super().__init__(what)
        self.close_code = close_code


class FrameReader:
    """Keeps what is not whole yet: a part of a frame, the fragments of a message."""

    __slots__ = ("_fragments", "_limit", "_opcode", "_rest", "_wanted")

    def __init__(self, message_bytes_limit: int) -> None:
        """A message of this size is too large already."""
        self._limit = message_bytes_limit
        self._opcode = CONTINUATION  # of the message whose fragments are coming in; there is none
        self._fragments = bytearray()
        self._rest = bytearray()  # of the last bytes, the beginning of a frame
        self._wanted = 0  # so many bytes must be there before there is any use in looking again

    @property
    def at_rest(self) -> bool:
        """Whether the next byte begins a new message, and nothing is kept."""
        return not self._rest and self._opcode == CONTINUATION

    def read(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Whole messages and control frames that end in these bytes: opcode and payload. Raises FrameError."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data, self._rest = bytes(self._rest), bytearray()
        at, end = 0, len(data)
        while at < end:
            # The head is looked at as far as it is there, so that what cannot be right is refused before it all is.
            first = data[at]
            opcode = first & 0x0F
            self._check_first(first, opcode)
            start, size = at + SMALL_HEAD_BYTES, 0
            if at + 1 < end:
                second = data[at + 1]
                if second < MASKED:
                    raise FrameError(PROTOCOL_ERROR, "a client masks what it sends")
                size = second & 0x7F
                if size > CONTROL_BYTES_MAX:
                    width = 2 if size == 126 else 8
                    if opcode >= CLOSE:
                        raise FrameError(PROTOCOL_ERROR, "a control frame has at most 125 bytes")
                    start += width
                    size = int.from_bytes(data[at + 2 : at + 2 + width], "big") if at + 2 + width <= end else 0
                if opcode < CLOSE and size + len(self._fragments) >= self._limit:
                    raise FrameError(TOO_BIG, "a message is too large")
            stop = start + size
            if stop > end:
                self._rest += data[at:]
                self._wanted = stop - at if start <= end else 0
                return
            payload = unmasked(data, start, stop)
            at = stop
            if first == WHOLE_BINARY or opcode >= CLOSE:
                yield opcode, payload
            elif message := self._joined(first, opcode, payload):
                yield message

    def _check_first(self, first: int, opcode: int) -> None:
        if first & RESERVED:
            raise FrameError(PROTOCOL_ERROR, "no extension was agreed on")
        if opcode >= CLOSE:
            if opcode > PONG or not first & FIN:
                raise FrameError(PROTOCOL_ERROR, "unknown or fragmented control frame")
        elif opcode > BINARY:
            raise FrameError(PROTOCOL_ERROR, "unknown opcode")
        elif (opcode == CONTINUATION) is (self._opcode == CONTINUATION):
            raise FrameError(PROTOCOL_ERROR, "a fragment of nothing, or a message within another one")

    def _joined(self, first: int, opcode: int, payload: bytes) -> tuple[int, bytes] | None:
        """The message that this fragment ends, if it does."""
        if opcode != CONTINUATION:
            self._opcode = opcode
        self._fragments += payload
        if not first & FIN:
            return None
        message = self._opcode, bytes(self._fragments)
        self._opcode, self._fragments = CONTINUATION, bytearray()
        if message[0] == TEXT:
            check_text(message[1])
        return message


def unmasked(data: bytes, start: int, stop: int) -> bytes:
    """What the client meant by these bytes; their mask stands before them."""
    if stop - start > LOOP_BYTES_MAX:
        payload = bytearray(data[start:stop])
        websocket_mask(data[start - 4 : start], payload)
        return bytes(payload)
    masked, plain = data, _plain
    for at in range(start, stop):
        plain[at - start] = masked[at] ^ masked[start - 4 + (at - start & 3)]
    return plain[: stop - start]  # type: ignore[return-value] # of a pointer, that is `bytes`


_plain = bytearray(64)  # where a short message lies for a moment


def read_close(payload: bytes) -> int:
    """The code that a peer closes with. Raises FrameError for one that it must not use."""
    if not payload:
        return NORMAL
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or (code not in CLOSE_CODES and not 3000 <= code < 5000):
        raise FrameError(PROTOCOL_ERROR, "no close code")
    check_text(payload[2:])
    return code


def check_text(payload: bytes) -> None:
    """Raises FrameError for what is no UTF-8."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_TEXT, "text that is none") from None
