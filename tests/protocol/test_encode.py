"""Encoding: splicing gives the same bytes as encoding the whole would; decoders understand it; WebSocket frames."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver import errors, protocol
from gameserver.protocol import (
    EMPTY_ARRAY,
    SERVER_MESSAGES,
    Ack,
    Closed,
    ErrorMessage,
    Events,
    Frame,
    Joined,
    Moved,
    Part,
    Pong,
    Reply,
    StateMessage,
    Welcome,
    WelcomeInfo,
    decode_server,
    encode_event_list,
    pack,
    ws_frame,
)

OPS = pack([[5, 0, 1.5], 7])
EVENTS = encode_event_list([["hit", {"target": "bob"}]])
STATE = pack([1, 2, 10, [2, 0]])
SCHEMA = pack([["Arena", 1, [["ships", "node"]]]])
WELCOME = {
    "connection": "c1",
    "user": "alice",
    "role": "player",
    "name": "Alice",
    "server_time_ms": 5,
    "protocol": 1,
    "limits": {"message_bytes_max": 65536},
}
JOINED = {
    "match": "m1",
    "game": "arena",
    "session": "s1",
    "slot": 0,
    "epoch": 1,
    "version": 40_000,
    "time_ms": 2_000,
    "actions": ["fire", "steer"],
    "recovered": False,
    "spectator": False,
    "tick_hz": 20,
    "window": 64,
    "seq": 0,
}
CASES = [
    (protocol.encode_welcome(WELCOME), [1, WELCOME], Welcome),
    (protocol.encode_welcome(WelcomeInfo(**WELCOME)), [1, WELCOME], Welcome),
    (
        protocol.encode_joined(1, 7, JOINED, schema=SCHEMA, state=STATE),
        [2, 1, 7, JOINED | {"schema": [["Arena", 1, [["ships", "node"]]]], "state": [1, 2, 10, [2, 0]]}],
        Joined,
    ),
    (
        protocol.encode_frame(7, 1, 40_001, 2_050, [0, 5, 1, 300], OPS, EVENTS),
        [3, 7, 1, 40_001, 2_050, [0, 5, 1, 300], [[5, 0, 1.5], 7], [["hit", {"target": "bob"}]]],
        Frame,
    ),
    (protocol.encode_frame(7, 1, 1, 0, [], EMPTY_ARRAY), [3, 7, 1, 1, 0, [], [], []], Frame),
    (
        protocol.encode_part(7, 1, 40_001, OPS, EVENTS),
        [4, 7, 1, 40_001, [[5, 0, 1.5], 7], [["hit", {"target": "bob"}]]],
        Part,
    ),
    (protocol.encode_events(7, 1, 40_001, EVENTS), [5, 7, 1, 40_001, [["hit", {"target": "bob"}]]], Events),
    (protocol.encode_ack(7, 12, 40_001, True), [6, 7, 12, 40_001, 0, True], Ack),
    (
        protocol.encode_ack(7, 12, 40_001, ["action_refused", "too far", False], error=True),
        [6, 7, 12, 40_001, 1, ["action_refused", "too far", False]],
        Ack,
    ),
    (protocol.encode_error(3, "match_full", "full", False), [7, 3, "match_full", "full", False], ErrorMessage),
    (
        protocol.encode_failure(None, errors.ServerDraining("going down")),
        [7, None, "server_draining", "going down", True],
        ErrorMessage,
    ),
    (protocol.encode_reply(3, {"a": 1}), [8, 3, {"a": 1}], Reply),
    (protocol.encode_moved(7, "ws://10.0.0.2:8000/v1/ws"), [9, 7, "ws://10.0.0.2:8000/v1/ws"], Moved),
    (protocol.encode_closed(7, "match_ended", "over", False), [10, 7, "match_ended", "over", False], Closed),
    (protocol.encode_pong("n", 123), [11, "n", 123], Pong),
    (
        protocol.encode_refusal(7, 14, 40_001, errors.SeqGap("13 is missing")),
        [6, 7, 14, 40_001, 2, ["seq_gap", "13 is missing", True]],
        Ack,
    ),
    (
        protocol.encode_state(7, 2, 50_000, 9, STATE, 3),
        [12, 7, 2, 50_000, 9, [1, 2, 10, [2, 0]], 3, None],
        StateMessage,
    ),
    (
        protocol.encode_state(7, 2, 50_000, 9, STATE, schema=SCHEMA),
        [12, 7, 2, 50_000, 9, [1, 2, 10, [2, 0]], 0, [["Arena", 1, [["ships", "node"]]]]],
        StateMessage,
    ),
]


@pytest.mark.parametrize(("data", "wire", "kind"), CASES)
def test_spliced_messages_are_what_the_whole_would_be(data, wire, kind):
    assert msgspec.msgpack.decode(data) == wire
    assert pack(wire) == data or kind is Joined  # its keys stand in another order
    assert type(decode_server(data)) is kind


def test_every_server_message_has_a_case():
    assert {kind for _, _, kind in CASES} == set(SERVER_MESSAGES.values())


def test_decoded_messages_have_names():
    frame = decode_server(protocol.encode_frame(7, 1, 2, 3, [0, 5], OPS, EVENTS))
    assert frame == Frame(7, 1, 2, 3, [0, 5], [[5, 0, 1.5], 7], [["hit", {"target": "bob"}]])
    joined = decode_server(protocol.encode_joined(1, 7, JOINED, schema=SCHEMA))
    assert (joined.info.state, joined.info.session, joined.info.seq) == (None, "s1", 0)
    assert decode_server(protocol.encode_ack(1, 2, 3)).ok
    failed = decode_server(protocol.encode_ack(1, 2, 3, ["c", "m", False], error=True))
    assert (failed.ok, failed.refused) == (False, False)
    refused = decode_server(protocol.encode_refusal(1, 2, 3, errors.SeqGap()))
    assert (refused.ok, refused.refused) == (False, True)
    assert decode_server(pack([12, 7, 2, 5, 9, [1, 2], 0])).schema is None


@pytest.mark.parametrize("entries", [0, 1, 13, 14, 15, 16, 17, 300])
def test_an_info_map_of_any_size_takes_the_spliced_entries(entries):
    info = {f"k{number}": number for number in range(entries)}
    wire = msgspec.msgpack.decode(protocol.encode_joined(1, 2, info, schema=SCHEMA, state=STATE))
    assert wire[3] == info | {"schema": [["Arena", 1, [["ships", "node"]]]], "state": [1, 2, 10, [2, 0]]}


def test_clients_skip_what_a_later_server_adds():
    assert decode_server(pack([11, 1, 2, "later", "fields"])) == Pong(1, 2)
    later = protocol.encode_joined(1, 7, JOINED | {"later": 1}, schema=SCHEMA, state=STATE)
    assert decode_server(later).info.match == "m1"
    with pytest.raises(errors.MessageTypeUnknown):
        decode_server(pack([99, 1]))


def test_bad_server_messages_are_named():
    with pytest.raises(errors.FieldInvalid, match=r"frame\.version"):
        decode_server(pack([3, 7, 1, "x", 0, [], [], []]))
    with pytest.raises(errors.FieldInvalid, match=r"error\.code"):
        decode_server(pack([7, 7, 1, "x", False]))


def test_messages_to_the_world_pass_through_a_frame_unchanged():
    """Numbers that state may hold and clients may not send: NaN, infinities, 64 bits unsigned."""
    data = protocol.encode_frame(1, 1, 1, 0, [], pack([[5, 0, float("inf"), 1, 2**64 - 1]]))
    assert decode_server(data).ops == [[5, 0, float("inf"), 1, 2**64 - 1]]


# --- WebSocket frames -------------------------------------------------------------------------------------------------
def read_ws_frame(frame: bytes) -> bytes:
    """RFC 6455, section 5.2, for unmasked frames."""
    assert frame[0] == 0x82
    length, start = frame[1], 2
    assert length < 128
    if length == 126:
        length, start = int.from_bytes(frame[2:4], "big"), 4
        assert length > 125
    elif length == 127:
        length, start = int.from_bytes(frame[2:10], "big"), 10
        assert length > 65_535
    assert len(frame) == start + length
    return frame[start:]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_frame_has_the_shortest_header_at_every_length(length):
    payload = bytes(length)
    assert read_ws_frame(ws_frame(payload)) == payload


@given(st.binary(max_size=300))
def test_a_frame_holds_its_payload(payload):
    assert read_ws_frame(ws_frame(payload)) == payload
