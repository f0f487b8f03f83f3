"""Writes the test vectors: `python tests/protocol/make_vectors.py`. A test checks that the files are what this makes.

JSON cannot hold all of msgpack: binary is {"$binary": hex}, a map with other than string keys is
{"$map": [[key, value] …]}, a number that JSON lacks is {"$number": "Infinity"}.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec

from gameserver import errors, protocol
from gameserver.protocol import Action, Hello, Join, JoinDetails, Leave, Ping, Request, Resume, pack

FOLDER = Path(__file__).parent / "vectors"


# --- JSON -------------------------------------------------------------------------------------------------------------
def to_json(value: Any) -> Any:
    """A msgpack value (or message) as JSON can hold it."""
    if isinstance(value, msgspec.Struct):
        return {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return {"$binary": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$number": {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"$map": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def message_json(message: msgspec.Struct) -> dict[str, Any]:
    """A message by its names."""
    return {"type": type_name(type(message))} | to_json(message)


def type_name(message: type[msgspec.Struct]) -> str:
    """The type's name as docs/protocol.md has it."""
    return message.__name__.removesuffix("Message").upper()


# --- messages ---------------------------------------------------------------------------------------------------------
CLIENT: dict[str, Any] = {
    "hello": Hello(1, "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", {"client": "example", "version": "1.0"}),
    "hello without a token": Hello(),
    "join or create": Join(1, "game", "arena", JoinDetails({"size": 50, "map": "canyon"})),
    "join a match": Join(2, "match", "k3m9x2p7q4rt"),
    "create a match": Join(3, "create", "battleship", JoinDetails({"turn_seconds": 20.5})),
    "spectate": Join(4, "match", "k3m9x2p7q4rt", JoinDetails(spectate=True)),
    "resume": Join(5, "match", "k3m9x2p7q4rt", JoinDetails(resume=Resume("s8w2", 3, 70_000, 69_998, 2))),
    "action by name": Action(7, 1, "fire", {"target": "bob"}),
    "action by number, quiet": Action(7, 2, 1, [0.5, -0.25], 1),
    "action with every kind of value": Action(
        4_294_967_295,
        9_007_199_254_740_991,
        "all",
        [
            None,
            True,
            False,
            0,
            -1,
            127,
            128,
            65_536,
            -(2**63),
            2**63 - 1,
            0.1,
            "",
            "Zoë 🦊",
            b"\x00\xff",
            [],
            {},
            {1: 2},
        ],
    ),
    "leave": Leave(6, 7),
    "request": Request(8, "matches", {"game": "arena", "limit": 5}),
    "ping with a number": Ping(1_700_000_000_000),
    "ping with nothing": Ping(),
}

OPS = pack([[2, "bob", [9, 3, 150, -25, 100]], [8, 0, 151, 2, 90]])
PRIVATE_OPS = pack([[8, 3, 9]])
EVENTS = protocol.encode_event_list([["hit", {"target": "bob", "by": "alice"}], ["sound", None]])
SCHEMA = pack(
    [
        ["Arena", 1, [["ships", "node"]]],
        ["Ship", 3, [["x", "float", 0.01], ["y", "float", 0.01], ["hp", "int"], ["ammo", "int"]]],
    ]
)
STATE = pack([1, 2, [2, 0, "alice", [8, 3, 150, 0, 100, 10]]])
PUBLIC_STATE = pack([1, 2, [2, 0, "alice", [8, 3, 150, 0, 100]]])
JOINED = {
    "match": "k3m9x2p7q4rt",
    "game": "arena",
    "session": "s8w2",
    "slot": 0,
    "epoch": 3,
    "version": 41,
    "time_ms": 2_050,
    "actions": ["fire", "steer"],
    "recovered": False,
    "spectator": False,
    "tick_hz": 20,
    "window": 64,
    "seq": 0,
}
SERVER: dict[str, bytes] = {
    "welcome": protocol.encode_welcome(
        {
            "connection": "c1",
            "user": "alice",
            "role": "player",
            "name": "Alice",
            "server_time_ms": 1_700_000_000_000,
            "protocol": 1,
            "limits": {"message_bytes_max": 65_536, "channels_max": 16},
        }
    ),
    "joined": protocol.encode_joined(1, 7, JOINED, schema=SCHEMA, state=STATE),
    "joined as a spectator": protocol.encode_joined(
        4, 7, JOINED | {"slot": -1, "spectator": True}, schema=SCHEMA, state=PUBLIC_STATE
    ),
    "joined, recovered": protocol.encode_joined(5, 7, JOINED | {"recovered": True, "seq": 12}, schema=SCHEMA),
    "frame": protocol.encode_frame(7, 3, 42, 2_100, [0, 2, 1, 300], OPS, EVENTS),
    "frame with nothing in it": protocol.encode_frame(7, 3, 43, 2_150, [], protocol.EMPTY_ARRAY),
    "part": protocol.encode_part(7, 3, 42, PRIVATE_OPS, protocol.encode_event_list([["reload", 3]])),
    "events": protocol.encode_events(7, 3, 42, EVENTS),
    "ack": protocol.encode_ack(7, 1, 42, True),
    "ack of an action that failed": protocol.encode_ack(7, 2, 42, ["action_refused", "too far", False], error=True),
    "ack of an action that has no outcome": protocol.encode_refusal(7, 4, 42, errors.SeqGap("3 is missing")),
    "error to a request": protocol.encode_failure(2, errors.MatchFull("The match is full.")),
    "error of the connection": protocol.encode_failure(None, errors.TokenExpired("The token has expired.")),
    "reply": protocol.encode_reply(8, {"matches": [], "next_cursor": None}),
    "reply to a leave": protocol.encode_reply(6),
    "moved": protocol.encode_moved(7, "wss://node2.example.org/v1/ws"),
    "closed": protocol.encode_closed(7, "match_ended", "The match has ended: finished", False),
    "pong": protocol.encode_pong(1_700_000_000_000, 1_700_000_000_250),
    "state": protocol.encode_state(7, 4, 44, 2_200, STATE, 3),
    "state with a schema": protocol.encode_state(7, 4, 44, 2_200, STATE, 0, SCHEMA),
    "a later server's longer pong": pack([11, 1, 2, "more"]),
}

BAD: dict[str, tuple[str, dict[str, int]]] = {
    "nothing": ("", {}),
    "a byte that msgpack never uses": ("c1", {}),
    "not an array": ("03", {}),
    "an empty array": ("90", {}),
    "a type that is no number": ("91a568656c6c6f", {}),
    "an unknown type": ("920901", {}),
    "truncated": (protocol.encode_client(CLIENT["action by name"])[:-1].hex(), {}),
    "bytes after the message": (protocol.encode_client(CLIENT["leave"]).hex() + "c0", {}),
    "a length beyond the message": ("95030701a466697265ddffffffff", {}),
    "text that is not UTF-8": ("95030701a461ff626390", {}),
    "another protocol version": ("920102", {}),
    "another version with other fields": ("95010281a16101020304", {}),
    "a field too few": ("93030701", {}),
    "a field too many": ("97030701a466697265900000", {}),
    "a boolean for a number": ("9503c301a46669726590", {}),
    "a float for an integer": ("9503cb401c00000000000001a46669726590", {}),
    "seq 0": ("95030700a46669726590", {}),
    "an unknown flag": ("96030701a4666972659002", {}),
    "arguments that are neither array nor map": ("95030701a466697265a3626f62", {}),
    "an unknown kind of join": (pack([2, 1, "tournament", "arena", {}]).hex(), {}),
    "an unknown join option": (pack([2, 1, "game", "arena", {"option": {}}]).hex(), {}),
    "NaN": ("95030701a46669726591cb7ff8000000000000", {}),
    "infinity": ("95030701a46669726591ca7f800000", {}),
    "an integer past signed 64 bits": ("95030701a46669726591cf8000000000000000", {}),
    "a timestamp": ("95030701a46669726591d6ff00000001", {}),
    "an extension type": ("95030701a46669726591d40500", {}),
    "nil as a key": ("95030701a4666972659181c001", {}),
    "an array as a key": ("95030701a46669726591819001", {}),
    "too large": (protocol.encode_client(CLIENT["action by name"]).hex(), {"message_bytes_max": 10}),
    "too deep": (pack([3, 7, 1, "a", [[[1]]]]).hex(), {"depth_max": 3}),
    "far too deep": ("95030701a161" + "91" * 5_000 + "90", {}),
    "too many values": (pack([3, 7, 1, "a", [1, [2, 3]]]).hex(), {"items_max": 3}),
    "a string too long": (pack([3, 7, 1, "a", ["ääää"]]).hex(), {"string_bytes_max": 7}),
}


def client_vectors() -> list[dict[str, Any]]:
    return [
        {"name": name, "direction": "client", "hex": pack(message).hex(), "message": message_json(message)}
        for name, message in CLIENT.items()
    ]


def server_vectors() -> list[dict[str, Any]]:
    return [
        {"name": name, "direction": "server", "hex": d.hex(), "message": message_json(protocol.decode_server(d))}
        for name, d in SERVER.items()
    ]


def bad_vectors() -> list[dict[str, Any]]:
    made = []
    for name, (data, limits) in BAD.items():
        vector: dict[str, Any] = {"name": name, "direction": "client", "hex": data}
        if limits:
            vector["limits"] = limits
        made.append(vector | {"error": error_code(bytes.fromhex(data), limits)})
    return made


def error_code(data: bytes, limits: dict[str, int]) -> str:
    """The code that these bytes are refused with."""
    try:
        protocol.decode_client(data, protocol.Limits(**limits))
    except errors.ProtocolError as refused:
        return refused.code
    raise AssertionError(f"accepted: {data.hex()}")


# --- state ------------------------------------------------------------------------------------------------------------
# Written by hand from docs/protocol.md, the expected results too: they are not what some code made of them.
Step = tuple[list[Any], list[list[Any]], Any]
GAME = ["Arena", 3, [["ships", "node"], ["round", "int"], ["king", "node"]]]
SHIP = ["Ship", 2, [["x", "float", 0.5], ["hp", "int"], ["ammo", "int"]]]
DATA = ["Data", 1, [["data", "any"]]]

STATE_CASES: dict[str, tuple[list[Any], list[Any], Any, list[Step]]] = {
    "fields of an entity; a quantized one is sent as a count of steps": (
        [GAME, SHIP],
        [1, 2, [2, 0, "a", [3, 3, 4, 100]], 1, None],
        {"ships": {"a": {"x": 2.0, "hp": 100}}, "round": 1, "king": None},
        [
            ([[3, 0, 5], [1, 1, 2]], [], {"ships": {"a": {"x": 2.5, "hp": 100}}, "round": 2, "king": None}),
            ([[3, 0, math.inf, 1, 90]], [], {"ships": {"a": {"x": math.inf, "hp": 90}}, "round": 2, "king": None}),
            ([], [], {"ships": {"a": {"x": math.inf, "hp": 90}}, "round": 2, "king": None}),
        ],
    ),
    "a negative field number adds to the count of steps": (
        [GAME, SHIP],
        [1, 2, [2, 0, "a", [3, 3, 4, 100]], 1, None],
        {"ships": {"a": {"x": 2.0, "hp": 100}}, "round": 1, "king": None},
        [
            ([[3, 0, 600, 1, 90]], [], {"ships": {"a": {"x": 300.0, "hp": 90}}, "round": 1, "king": None}),
            ([[3, -1, 127]], [], {"ships": {"a": {"x": 363.5, "hp": 90}}, "round": 1, "king": None}),
            ([[3, 1, 80, -1, -128]], [], {"ships": {"a": {"x": 299.5, "hp": 80}}, "round": 1, "king": None}),
            ([[9, -1, 5]], [], {"ships": {"a": {"x": 299.5, "hp": 80}}, "round": 1, "king": None}),
        ],
    ),
    "a map: add, replace, remove; removals come before sets": (
        [DATA],
        [1, 2, [2, 0, "a", 1, "b", 2]],
        {"data": {"a": 1, "b": 2}},
        [
            ([[2, "c", 3, "a", "x"]], [], {"data": {"a": "x", "b": 2, "c": 3}}),
            ([[2, ["b", "c"]]], [], {"data": {"a": "x"}}),
            ([[2, "a", None, "d", True, ["a"]]], [], {"data": {"a": None, "d": True}}),
            ([[2, ["not there"]]], [], {"data": {"a": None, "d": True}}),
        ],
    ),
    "keys may be integers, values binary": (
        [DATA],
        [1, 2, [2, 0, 7, b"\x00\xff", -1, 0.5]],
        {"data": {7: b"\x00\xff", -1: 0.5}},
        [([[2, 7, b"", [-1]]], [], {"data": {7: b""}})],
    ),
    "a list: items replaced, spliced in order, then set": (
        [DATA],
        [1, 2, [2, 1, "a", "b", "c"]],
        {"data": ["a", "b", "c"]},
        [
            ([[2, 1, "B"]], [], {"data": ["a", "B", "c"]}),
            ([[2, [[0, 1], [2, 0, "d", "e"]]]], [], {"data": ["B", "c", "d", "e"]}),
            ([[2, 0, "first", [[1, 2, "x"], [0, 0, "?"]]]], [], {"data": ["first", "B", "x", "e"]}),
            ([[2, [[0, 4]]]], [], {"data": []}),
        ],
    ),
    "containers within containers": (
        [DATA],
        [1, 2, [2, 0, "rows", [3, 1, [4, 1, 1, 2], [5, 0, "k", None]]]],
        {"data": {"rows": [[1, 2], {"k": None}]}},
        [
            ([[4, 0, 9], [5, "k", [6, 1]]], [], {"data": {"rows": [[9, 2], {"k": []}]}}),
            ([[6, [[0, 0, 1]]], [3, [[0, 1]]]], [], {"data": {"rows": [{"k": [1]}]}}),
            ([[1, 0, "gone"]], [], {"data": "gone"}),
        ],
    ),
    "a new node arrives whole, and is known from then on": (
        [GAME, SHIP],
        [1, 2, [2, 0], 0, None],
        {"ships": {}, "round": 0, "king": None},
        [
            ([[2, "a", [3, 3, 0, 100]]], [], {"ships": {"a": {"x": 0.0, "hp": 100}}, "round": 0, "king": None}),
            ([[3, 1, 50]], [], {"ships": {"a": {"x": 0.0, "hp": 50}}, "round": 0, "king": None}),
        ],
    ),
    "a move refers to the node by its id; it leaves its old place": (
        [GAME, SHIP],
        [1, 2, [2, 0, "a", [3, 3, 2, 100]], 0, None],
        {"ships": {"a": {"x": 1.0, "hp": 100}}, "round": 0, "king": None},
        [
            ([[1, 2, [3]], [2, ["a"]]], [], {"ships": {}, "round": 0, "king": {"x": 1.0, "hp": 100}}),
            ([[3, 1, 70]], [], {"ships": {}, "round": 0, "king": {"x": 1.0, "hp": 70}}),
            ([[2, "b", [3]]], [], {"ships": {"b": {"x": 1.0, "hp": 70}}, "round": 0, "king": None}),
        ],
    ),
    "a node that lost its place can be put back within the same version": (
        [GAME, SHIP],
        [1, 2, [2, 0, "a", [3, 3, 2, 100]], 0, None],
        {"ships": {"a": {"x": 1.0, "hp": 100}}, "round": 0, "king": None},
        [
            ([[2, ["a"]]], [[[2, "z", [3]]]], {"ships": {"z": {"x": 1.0, "hp": 100}}, "round": 0, "king": None}),
            ([[2, ["z"]]], [], {"ships": {}, "round": 0, "king": None}),
            ([[3, 1, 1]], [], {"ships": {}, "round": 0, "king": None}),
        ],
    ),
    "nodes in a list are moved by splices": (
        [DATA],
        [1, 2, [2, 1, [3, 0, "n", 1], [4, 0, "n", 2], [5, 0, "n", 3]]],
        {"data": [{"n": 1}, {"n": 2}, {"n": 3}]},
        [
            ([[2, [[0, 3, [5], [3], [4]]]]], [], {"data": [{"n": 3}, {"n": 1}, {"n": 2}]}),
            ([[5, "n", 30], [2, [[1, 1]]]], [], {"data": [{"n": 30}, {"n": 2}]}),
        ],
    ),
    "what only the owner sees comes in a part; losing it unsets the field": (
        [GAME, SHIP],
        [1, 2, [2, 0, "a", [3, 3, 0, 100, 10], "b", [4, 3, 0, 100]], 0, None],
        {"ships": {"a": {"x": 0.0, "hp": 100, "ammo": 10}, "b": {"x": 0.0, "hp": 100}}, "round": 0, "king": None},
        [
            (
                [[3, 1, 99]],
                [[[3, 2, 9]]],
                {"ships": {"a": {"x": 0.0, "hp": 99, "ammo": 9}, "b": {"x": 0.0, "hp": 100}}, "round": 0, "king": None},
            ),
            (
                [],
                [[[3, [2]]], [[4, 2, 5]]],
                {
                    "ships": {"a": {"x": 0.0, "hp": 99}, "b": {"x": 0.0, "hp": 100, "ammo": 5}},
                    "round": 0,
                    "king": None,
                },
            ),
        ],
    ),
    "parts are applied after the frame, in order: a hidden node is gained where everyone is told of nil": (
        [GAME, SHIP],
        [1, 2, [2, 0], 0, None],
        {"ships": {}, "round": 0, "king": None},
        [
            (
                [[1, 1, 1, 2, None]],
                [[[1, 2, [5, 3, 1, 1]]], [[5, 1, 2]]],
                {"ships": {}, "round": 1, "king": {"x": 0.5, "hp": 2}},
            ),
        ],
    ),
    "a node that is not visible any more is dropped: nil in a field or list, absent in a map": (
        [["Game", 3, [["a", "node"], ["b", "node"], ["c", "node"]]]],
        [1, 2, [2, 0, "k", [3, 0, "deep", [4, 0]], "l", 1], [5, 1, [6, 0], 2], [7, 0]],
        {"a": {"k": {"deep": {}}, "l": 1}, "b": [{}, 2], "c": {}},
        [
            ([], [[3, 6, 7]], {"a": {"l": 1}, "b": [None, 2], "c": None}),
            ([[4, "x", 1], [3, "x", 1], 4], [], {"a": {"l": 1}, "b": [None, 2], "c": None}),
        ],
    ),
    "ids that are not known are ignored": (
        [DATA],
        [1, 2, [2, 0]],
        {"data": {}},
        [([[99, "a", 1], [98, ["a"]], 97, [2, "b", 2]], [], {"data": {"b": 2}})],
    ),
    "a class that was met for the first time": (
        [DATA],
        [1, 2, None],
        {"data": None},
        [
            (
                [["schema", 3, ["Late", 1, [["n", "int"], ["secret", "str"]]]], [1, 0, [2, 3, 5]]],
                [[[2, 1, "mine"]]],
                {"data": {"n": 5, "secret": "mine"}},
            ),
        ],
    ),
    "a node that is sent whole again replaces what was known of it": (
        [DATA],
        [1, 2, [2, 0, "a", [3, 0, "old", 1], "b", 1]],
        {"data": {"a": {"old": 1}, "b": 1}},
        [
            ([[2, "a", [3, 0, "new", 2]]], [], {"data": {"a": {"new": 2}, "b": 1}}),
            ([[3, "new", 3]], [], {"data": {"a": {"new": 3}, "b": 1}}),
        ],
    ),
}


def state_vectors() -> list[dict[str, Any]]:
    made = []
    for name, (schema, literal, expected, steps) in STATE_CASES.items():
        versions = [
            {
                "ops": to_json(ops),
                "ops_hex": pack(ops).hex(),
                "parts": to_json(parts),
                "parts_hex": [pack(part).hex() for part in parts],
                "expect": to_json(then),
            }
            for ops, parts, then in steps
        ]
        made.append(
            {
                "name": name,
                "schema": schema,
                "state": to_json(literal),
                "state_hex": pack(literal).hex(),
                "expect": to_json(expected),
                "versions": versions,
            }
        )
    return made


def make_files() -> dict[str, str]:
    """File name → content."""
    made = {
        "client.json": client_vectors(),
        "server.json": server_vectors(),
        "bad.json": bad_vectors(),
        "state.json": state_vectors(),
    }
    return {name: one_per_line(vectors) for name, vectors in made.items()}


def one_per_line(vectors: list[dict[str, Any]]) -> str:
    """JSON with a line for each vector: a change shows as the lines that changed."""
    return "[\n" + ",\n".join(json.dumps(vector, ensure_ascii=False, allow_nan=False) for vector in vectors) + "\n]\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in make_files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
