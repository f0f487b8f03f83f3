"""Decoding: every message type comes back as it was, and anything else is a ProtocolError."""

import contextlib
import struct

import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gameserver import errors
from gameserver.protocol import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    Action,
    Hello,
    Join,
    JoinDetails,
    Leave,
    Limits,
    Ping,
    Request,
    Resume,
    decode_args,
    decode_client,
    decode_server,
    encode_client,
    pack,
    peek_action,
)

names = st.text(min_size=1, max_size=20)
numbers = st.integers(0, 2**32 - 1)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers(-(2**63), 2**63 - 1), inner, max_size=4)
    ),
    max_leaves=12,
)
maps = st.dictionaries(st.text(max_size=8), values, max_size=4)
resumes = st.builds(Resume, names, numbers, numbers, st.none() | numbers, st.none() | numbers)
messages = st.one_of(
    st.builds(Hello, st.just(1), st.none() | st.text(max_size=50), maps),
    st.builds(
        Join,
        numbers,
        st.sampled_from(["match", "game", "create"]),
        names,
        st.builds(JoinDetails, maps, st.booleans(), st.none() | resumes),
    ),
    st.builds(
        Action,
        numbers,
        st.integers(1, 2**53 - 1),
        names | st.integers(0, 65_535),
        st.lists(values, max_size=4) | maps,
        st.integers(0, 1),
    ),
    st.builds(Leave, numbers, numbers),
    st.builds(Request, numbers, names, maps),
    st.builds(Ping, st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=64) | st.floats(allow_nan=False)),
)


# --- good ones --------------------------------------------------------------------------------------------------------
@given(messages)
def test_what_is_encoded_decodes_to_the_same_message(message):
    assert decode_client(encode_client(message)) == message


@given(messages)
def test_another_msgpack_encoder_is_understood_too(message):
    wire = msgspec.msgpack.decode(encode_client(message))
    assert decode_client(msgpack.packb(wire)) == message


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        ([1, 1], Hello(1, None, {})),
        ([1, 1, "t"], Hello(1, "t", {})),
        ([2, 5, "game", "arena"], Join(5, "game", "arena", JoinDetails({}, False, None))),
        ([2, 5, "game", "arena", {}], Join(5, "game", "arena", JoinDetails({}, False, None))),
        ([3, 0, 1, "fire"], Action(0, 1, "fire", [], 0)),
        ([3, 0, 1, 2, [1]], Action(0, 1, 2, [1], 0)),
        ([5, 1, "time"], Request(1, "time", {})),
        ([6], Ping(None)),
    ],
)
def test_trailing_fields_with_defaults_may_be_left_out(wire, message):
    assert decode_client(pack(wire)) == message


def test_numbers_and_headers_in_longer_forms_mean_the_same():
    """Not every encoder picks the shortest form."""
    long_form = b"\xdd\x00\x00\x00\x05" + b"\xcd\x00\x03" + b"\xcf" + struct.pack(">Q", 7) + b"\xd1\x00\x09"
    long_form += b"\xdb\x00\x00\x00\x04fire" + b"\xdc\x00\x01\xca" + struct.pack(">f", 0.5)
    assert decode_client(long_form) == Action(7, 9, "fire", [0.5])


def test_duplicate_keys_the_last_one_counts():
    assert decode_client(bytes.fromhex("95030101a161" + "82a161" + "01" + "a161" + "02")).args == {"a": 2}


def test_a_quiet_action_says_so():
    assert decode_client(pack([3, 0, 1, "steer", [], 1])).quiet
    assert not decode_client(pack([3, 0, 1, "steer"])).quiet


def test_a_join_shows_its_details():
    join = decode_client(pack([2, 1, "match", "m", {"options": {"a": 1}, "spectate": True, "resume": ["s", 2, 3]}]))
    assert (join.options, join.spectate, join.resume) == ({"a": 1}, True, Resume("s", 2, 3))
    join = decode_client(pack([2, 1, "match", "m", {"resume": ["s", 2, 3, 1]}]))
    assert join.resume == Resume("s", 2, 3, events_version=1)
    join = decode_client(pack([2, 1, "match", "m", {"resume": ["s", 2, 3, None, 4]}]))
    assert join.resume == Resume("s", 2, 3, attempt=4)


def test_a_hello_does_not_show_its_token():
    hello = Hello(1, "eyJhbGciOi", {"client": "x"})
    assert "eyJ" not in repr(hello)
    assert "eyJ" not in f"{[hello]} {hello!s}"


# --- bad ones: the error and what it says -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wire", "error", "says"),
    [
        (None, errors.MessageMalformed, "array"),
        ([], errors.MessageMalformed, "message type"),
        ({}, errors.MessageMalformed, "message type"),
        (["hello"], errors.MessageMalformed, "message type"),
        ([True], errors.MessageMalformed, "message type"),
        ([-1], errors.MessageMalformed, "message type"),
        ([0], errors.MessageTypeUnknown, "type 0"),
        ([7, 1], errors.MessageTypeUnknown, "type 7"),
        ([70_000], errors.MessageTypeUnknown, "type 70000"),
        ([1, 2], errors.ProtocolVersionUnsupported, "version 1, not 2"),
        ([1, 2, {"new": "fields"}, 5, 6, 7], errors.ProtocolVersionUnsupported, "version 1, not 2"),
        ([1, "1"], errors.FieldInvalid, "hello.version: expected `int`"),
        ([1, 1, 5], errors.FieldInvalid, "hello.token"),
        ([1, 1, "x" * 8193], errors.FieldInvalid, "hello.token: expected `str` of length <= 8192"),
        ([1, 1, None, []], errors.FieldInvalid, "hello.info: expected `object`"),
        ([1, 1, None, {1: 2}], errors.FieldInvalid, r"hello.info \(a key\)"),
        ([1, 1, None, {}, 0], errors.FieldInvalid, "hello: expected an array of at most 4 elements"),
        ([2], errors.FieldInvalid, "join: expected `array` of at least length"),
        ([2, -1, "game", "a"], errors.FieldInvalid, "join.request"),
        ([2, 2**32, "game", "a"], errors.FieldInvalid, "join.request"),
        ([2, 1, "tournament", "a"], errors.FieldInvalid, "join.kind"),
        ([2, 1, "game", ""], errors.FieldInvalid, "join.name"),
        ([2, 1, "game", "a" * 129], errors.FieldInvalid, "join.name"),
        ([2, 1, "game", "a", {"option": {}}], errors.FieldInvalid, "join.details: .*`option`"),
        ([2, 1, "game", "a", {"options": []}], errors.FieldInvalid, "join.details.options"),
        ([2, 1, "game", "a", {"spectate": 1}], errors.FieldInvalid, "join.details.spectate"),
        ([2, 1, "game", "a", {"resume": ["s", 1]}], errors.FieldInvalid, "join.details.resume"),
        ([2, 1, "game", "a", {"resume": ["s", 1, -1]}], errors.FieldInvalid, r"join.details.resume\[2\]"),
        ([2, 1, "game", "a", {"resume": ["s", 1, 1, "x"]}], errors.FieldInvalid, r"join.details.resume\[3\]"),
        ([2, 1, "game", "a", {"resume": ["s", 1, 1, 1, 1, 1]}], errors.FieldInvalid, "join.details.resume"),
        ([3, 0, 0, "a"], errors.FieldInvalid, "action.seq: expected `int` >= 1"),
        ([3, 0, 2**53, "a"], errors.FieldInvalid, "action.seq"),
        ([3, 1.0, 1, "a"], errors.FieldInvalid, "action.channel: expected `int`, got `float`"),
        ([3, True, 1, "a"], errors.FieldInvalid, "action.channel: expected `int`, got `bool`"),
        ([3, 0, 1, None], errors.FieldInvalid, "action.name: expected `int | str`, got `null`"),
        ([3, 0, 1, 65_536], errors.FieldInvalid, "action.name"),
        ([3, 0, 1, "a", "b"], errors.FieldInvalid, "action.args"),
        ([3, 0, 1, "a", None], errors.FieldInvalid, "action.args"),
        ([3, 0, 1, "a", {1: 2}], errors.FieldInvalid, r"action.args \(a key\)"),
        ([3, 0, 1, "a", [], 2], errors.FieldInvalid, "action.flags"),
        ([3, 0, 1, "a", [], 0, 0], errors.FieldInvalid, "action: expected an array of at most 6 elements"),
        ([3, 0, 1, "a", [float("nan")]], errors.FieldInvalid, "action.args: expected finite numbers, got nan"),
        ([3, 0, 1, "a", [[{"x": float("-inf")}]]], errors.FieldInvalid, "action.args: expected finite numbers"),
        ([3, 0, 1, "a", [2**63]], errors.FieldInvalid, "action.args: expected integers in signed 64 bits"),
        ([3, 0, 1, "a", [{2**63: 1}]], errors.FieldInvalid, "action.args: expected integers in signed 64 bits"),
        ([3, 0, 1, "a", [{None: 1}]], errors.FieldInvalid, "action.args: expected map keys .*, got nil"),
        ([3, 0, 1, "a", [{True: 1}]], errors.FieldInvalid, "action.args: expected map keys .*, got bool"),
        ([3, 0, 1, "a", [{1.5: 1}]], errors.FieldInvalid, "action.args: expected map keys .*, got float"),
        ([3, 0, 1, "a", [{b"k": 1}]], errors.FieldInvalid, "action.args: expected map keys .*, got binary"),
        ([3, 0, 1, "a", [msgpack.Timestamp(1)]], errors.FieldInvalid, "action.args: expected plain values"),
        ([3, 0, 1, "a", [msgpack.ExtType(5, b"x")]], errors.FieldInvalid, "action.args: expected plain values"),
        ([1, 1, None, {"t": msgpack.Timestamp(1)}], errors.FieldInvalid, "hello.info: expected plain values"),
        ([2, 1, "game", "a", {"options": {"t": [float("inf")]}}], errors.FieldInvalid, "join.details.options"),
        ([4, 1], errors.FieldInvalid, "leave: expected `array`"),
        ([4, 1, "x"], errors.FieldInvalid, "leave.channel"),
        ([5, 1, 7], errors.FieldInvalid, "request.method"),
        ([5, 1, "m", {"a": msgpack.ExtType(1, b"")}], errors.FieldInvalid, "request.params: expected plain values"),
        ([6, True], errors.FieldInvalid, "ping.nonce"),
        ([6, "x" * 65], errors.FieldInvalid, "ping.nonce"),
        ([6, []], errors.FieldInvalid, "ping.nonce"),
    ],
)
def test_the_error_says_which_field_and_what_was_expected(wire, error, says):
    with pytest.raises(errors.ProtocolError, match=says) as refused:
        decode_client(msgpack.packb(wire))
    assert type(refused.value) is error
    assert refused.value.close_code is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x03",
        b"\xdd\xff\xff\xff\xff",
        b"\x95\x03\x00\x01\xa1a" + b"\xdd\x7f\xff\xff\xff" * 300,
        b"\x95\x03\x00\x01\xa1a\xdf\xff\xff\xff\xff",
        b"\x95\x03\x00\x01\xdb\xff\xff\xff\xff",
        b"\x95\x03\x00\x01\xa1\xff\x90",
        b"\x95\x03\x00\x01\xa1a\x91\xa3\xed\xa0\x80",  # a surrogate in UTF-8
        b"\x95\x03\x00\x01\xa1a\x91\x81\x80\x01",  # a map as a key
        b"\x95\x03\x00\x01\xa1a\x91\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp out of range
        b"\x92\x06\x01\x01",
    ],
)
def test_bytes_that_are_no_message(data):
    with pytest.raises(errors.ProtocolError):
        decode_client(data)


def test_an_error_never_quotes_much_of_the_message():
    with pytest.raises(errors.FieldInvalid) as refused:
        decode_client(pack([2, 1, "k" * 10_000, "name"]))
    assert len(refused.value.message) < 300


# --- limits -----------------------------------------------------------------------------------------------------------
def refusal(wire, **limits) -> errors.ProtocolError | None:
    try:
        decode_client(pack(wire), Limits(**limits))
    except errors.ProtocolError as refused:
        return refused
    return None


def test_size_is_checked_before_anything_else():
    data = pack([6, "x"])
    assert decode_client(data, Limits(message_bytes_max=len(data)))
    with pytest.raises(errors.MessageTooLarge, match="at most 3 bytes, this one has 4") as refused:
        decode_client(data, Limits(message_bytes_max=3))
    assert refused.value.close_code == 4413


def nested(levels: int, leaf):
    for _ in range(levels):
        leaf = [leaf]
    return leaf


def test_depth_counts_every_container_from_the_message_on():
    assert refusal([3, 0, 1, "a", nested(3, 1)], depth_max=4) is None
    assert isinstance(refusal([3, 0, 1, "a", nested(4, 1)], depth_max=4), errors.MessageTooDeep)
    assert refusal([5, 0, "a", {"a": {"b": 1}}], depth_max=3) is None
    assert isinstance(refusal([5, 0, "a", {"a": {"b": {}}}], depth_max=3), errors.MessageTooDeep)
    assert refusal([2, 0, "game", "a", {"options": {"b": 1}}], depth_max=3) is None
    assert isinstance(refusal([2, 0, "game", "a", {"options": {"b": []}}], depth_max=3), errors.MessageTooDeep)


@pytest.mark.parametrize("levels", [17, 500, 900, 5_000, 60_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01"])
def test_any_depth_is_refused_without_harm(levels, opening):
    data = b"\x95\x03\x00\x01\xa1a" + (opening * levels)[:65_000] + b"\x90"
    peek_action(data)
    with pytest.raises(errors.ProtocolError):
        decode_client(data)


def test_values_are_counted_over_all_levels():
    assert refusal([3, 0, 1, "a", [1, [2, 3]]], items_max=4) is None
    assert "at most 4 values" in refusal([3, 0, 1, "a", [1, [2, 3, 4]]], items_max=4).message
    assert "at most 4 values" in refusal([3, 0, 1, "a", [[], [], [], [], []]], items_max=4).message


@pytest.mark.parametrize(
    ("value", "fits"),
    [("x" * 8, True), ("x" * 9, False), ("ää" * 2, True), ("äää" * 2, False), (b"x" * 8, True), (b"x" * 9, False)],
)
def test_strings_and_binary_are_measured_in_bytes(value, fits):
    for payload in ([value], [[{"k": value}]]):
        assert (refusal([3, 0, 1, "a", payload], string_bytes_max=8) is None) is fits
    if isinstance(value, str):
        assert (refusal([5, 0, "a", {value: 1}], string_bytes_max=8) is None) is fits


# --- fuzzing: only ProtocolError comes out ----------------------------------------------------------------------------
def decode_or_refuse(data: bytes) -> None:
    peeked = peek_action(data)  # never raises, and agrees with the other one wherever that finds an action
    with contextlib.suppress(errors.ProtocolError):
        found = decode_client(data)
        assert isinstance(found, Action) is (peeked is not None)
        if isinstance(found, Action) and peeked is not None:
            envelope = (found.channel, found.seq, found.name, found.flags)
            assert envelope == (peeked.channel, peeked.seq, peeked.name, peeked.flags)
            assert found.args == msgspec.msgpack.decode(peeked.args) == decode_args(data)
    for decode in (decode_client, decode_server):
        try:
            message = decode(data)
        except errors.ProtocolError as error:
            refused = error
        else:
            assert type(message) in (*CLIENT_MESSAGES.values(), *SERVER_MESSAGES.values())
            continue
        assert refused.message
        assert refused.close_code is not None


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
@example(b"\xd6\xff\xff\xff\xff\xff")
def test_random_bytes(data):
    decode_or_refuse(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 12), st.binary(max_size=100))
def test_random_bytes_behind_a_good_beginning(kind, rest):
    for length in (2, 3, 4, 5, 6):
        decode_or_refuse(bytes((0x90 | length, kind)) + rest)


@settings(max_examples=300, deadline=None)
@given(messages, st.data())
def test_valid_messages_with_bytes_changed_inserted_or_cut(message, data):
    changed = bytearray(encode_client(message))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed)))
        end = min(len(changed), place + data.draw(st.integers(0, 3)))
        changed[place:end] = data.draw(st.binary(max_size=6))
    decode_or_refuse(bytes(changed))


@given(messages)
def test_every_truncation_of_a_message_is_refused(message):
    data = encode_client(message)
    for length in range(len(data)):
        with pytest.raises(errors.ProtocolError):
            decode_client(data[:length])


wild = st.recursive(
    scalars
    | st.floats()
    | st.integers(2**63, 2**64 - 1)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=8))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**34), st.integers(0, 999_999_999)),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 13), st.lists(wild, max_size=8))
def test_well_formed_arrays_of_anything(kind, fields):
    decode_or_refuse(msgpack.packb([kind, *fields]))


def written(width: int, number: int) -> bytes:
    """An unsigned integer of so many bytes, even where fewer would do; 0: a single byte is all of it."""
    if not width:
        return bytes((number % 0x80,))
    return bytes((0xCB + width.bit_length(),)) + (number % 0x100**width).to_bytes(width, "big")


uints = st.builds(written, st.sampled_from([0, 1, 2, 4, 8]), st.integers(0, 2) | st.integers(0, 2**64 - 1))


@settings(max_examples=500, deadline=None)
@given(uints, uints, uints | names.map(pack), wild.map(msgpack.packb), uints | st.just(b"\xcb" + bytes(8)))
@example(b"\x05", b"\xcd\x01\x00", b"\x00", b"\x92\xff\xcb?\xf0" + bytes(6), b"\x01")
def test_heads_of_actions_however_they_are_written(channel, seq, name, args, flags):
    decode_or_refuse(b"\x96\x03" + channel + seq + name + args + flags)
    decode_or_refuse(b"\x96\x03" + channel + seq + name + b"\x91" + args + flags)


@given(
    st.integers(0, 0xFFFFFFFF), st.sampled_from([b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"]), st.binary(max_size=9)
)
def test_huge_lengths_cost_nothing(length, opening, rest):
    decode_or_refuse(b"\x95\x03\x00\x01\xa1a" + opening + struct.pack(">I", length) + rest)


def plain(value) -> bool:
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, dict):
        return all(type(k) in (str, int) and plain(v) for k, v in value.items())
    return value is None or type(value) in (bool, int, str, bytes) or (type(value) is float and abs(value) < 1e400)


@settings(max_examples=300, deadline=None)
@given(st.lists(wild, max_size=4))
def test_arguments_that_are_accepted_are_plain_and_finite(args):
    try:
        action = decode_client(msgpack.packb([3, 0, 1, "a", args]))
    except errors.FieldInvalid:
        return
    assert plain(action.args)
