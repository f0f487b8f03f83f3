"""Frames to messages, however the bytes are cut: the same messages, or the same refusal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gameserver.web.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameError, FrameReader, read_close

LIMIT = 1_000
masks = st.binary(min_size=4, max_size=4)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes = b"\1\2\3\4", width: int = 0) -> bytes:
    """A client's frame; `width` is that of the length, if it is to be longer than it must."""
    size = len(payload)
    width = width or (0 if size < 126 else 2 if size < 65_536 else 8)
    length = bytes((0x80 | {0: size, 2: 126, 8: 127}[width],)) + (size.to_bytes(width, "big") if width else b"")
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((opcode | 0x80 * fin,)) + length + mask + masked


def read(reader: FrameReader, pieces: list[bytes]) -> list[tuple[int, bytes] | int]:
    """All messages; last the code of a refusal, if there was one."""
    found: list[tuple[int, bytes] | int] = []
    try:
        for piece in pieces:
            for message in reader.read(piece):
                found.append(message)
    except FrameError as error:
        found.append(error.close_code)
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@st.composite
def sent(draw: st.DrawFn) -> tuple[list[tuple[int, bytes]], bytes]:
    """Messages, and the bytes of a client that sends them: whole or in fragments, control frames anywhere between."""
    messages: list[tuple[int, bytes]] = []
    data = b""

    def control() -> None:
        nonlocal data
        if draw(st.booleans()):
            messages.append((draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=125))))
            data += frame(*messages[-1], mask=draw(masks))

    for _ in range(draw(st.integers(0, 4))):
        text = draw(st.booleans())
        whole = draw(st.text(max_size=60)).encode() if text else draw(st.binary(max_size=300))
        opcode = TEXT if text else BINARY
        parts = cut(whole, draw(st.lists(st.integers(0, 300), max_size=3)))
        for number, part in enumerate(parts):
            first = opcode if number == 0 else CONTINUATION
            width = draw(st.sampled_from([0, 0, 8])) if len(part) < 126 else 0
            data += frame(first, part, fin=number == len(parts) - 1, mask=draw(masks), width=width)
            if number < len(parts) - 1:
                control()
        messages.append((opcode, whole))
        control()
    return messages, data


@settings(max_examples=300, deadline=None)
@given(sent(), st.lists(st.integers(0, 2_000), max_size=8))
def test_messages_come_out_whole_and_in_order_wherever_the_bytes_are_cut(given_, places):
    messages, data = given_
    reader = FrameReader(LIMIT)
    assert read(reader, cut(data, places)) == messages
    assert reader.at_rest
    one_by_one = FrameReader(LIMIT)
    assert read(one_by_one, [data[at : at + 1] for at in range(len(data))]) == messages


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=4))
@example(b"\x82\xff" + b"\xff" * 8, [3])
def test_bytes_of_any_kind_give_the_same_however_they_are_cut(data, places):
    whole = read(FrameReader(LIMIT), [data])
    assert read(FrameReader(LIMIT), cut(data, places)) == whole


REFUSED = [
    (frame(CONTINUATION, b"x"), 1002),
    (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), 1002),
    (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    (frame(PING, b"x", fin=False), 1002),
    (frame(CLOSE, bytes(126)), 1002),
    (frame(PING, b"", width=2), 1002),
    *((frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *((bytes((bit | BINARY | 0x80,)) + frame(BINARY, b"x")[1:], 1002) for bit in (0x10, 0x20, 0x40)),
    (b"\x82\x01x", 1002),
    (frame(TEXT, b"\xff\xff"), 1007),
    (frame(TEXT, b"\xe2\x82", fin=False) + frame(CONTINUATION, b"x"), 1007),
    (frame(BINARY, bytes(LIMIT)), 1009),
    (frame(BINARY, bytes(LIMIT - 1), fin=False) + frame(CONTINUATION, b"x"), 1009),
]


@pytest.mark.parametrize(("data", "close_code"), REFUSED)
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_is_refused_and_with_which_code(data, close_code, bytewise):
    """What came before it counts."""
    data = frame(BINARY, b"before") + data + frame(BINARY, b"after")
    pieces = [data[at : at + 1] for at in range(len(data))] if bytewise else [data]
    assert read(FrameReader(LIMIT), pieces) == [(BINARY, b"before"), close_code]


def test_too_much_is_refused_by_what_the_head_says():
    """Nothing of the payload is waited for; fragments count together."""
    for size in (LIMIT, 2**16, 2**40, 2**64 - 1):
        assert read(FrameReader(LIMIT), [b"\x82\xff" + size.to_bytes(8, "big")]) == [1009]
    assert read(FrameReader(LIMIT), [frame(BINARY, bytes(600), fin=False), b"\x80\xfe\x01\x90"]) == [1009]
    assert read(FrameReader(LIMIT), [frame(BINARY, bytes(LIMIT - 1))]) == [(BINARY, bytes(LIMIT - 1))]


def test_only_what_is_not_whole_is_kept():
    reader = FrameReader(LIMIT)
    data = frame(BINARY, b"one") + frame(BINARY, b"two")
    assert read(reader, [data[:-1]]) == [(BINARY, b"one")]
    assert not reader.at_rest
    assert read(reader, [data[-1:]]) == [(BINARY, b"two")]
    assert reader.at_rest
    assert read(reader, [frame(BINARY, b"", fin=False)]) == []
    assert not reader.at_rest, "the message goes on, although nothing of it is there yet"
    assert read(reader, [frame(CONTINUATION, b"")]) == [(BINARY, b"")]
    assert reader.at_rest


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0b\xb8", 3000), (b"\x13\x87", 4999),
        (b"\x03", None), (b"\x03\xed", None), (b"\x03\xee", None), (b"\x00\x00", None), (b"\x13\x88", None),
        (b"\x03\xe8\xff", None),
    ],
)  # fmt: skip
def test_close_codes(payload, code):
    if code is None:
        with pytest.raises(FrameError):
            read_close(payload)
    else:
        assert read_close(payload) == code
