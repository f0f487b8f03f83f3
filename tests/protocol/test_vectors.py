"""The vectors that other implementations are tested with, against ours and against a reader written from the docs."""

import json
import random
from typing import Any

import make_vectors
import msgspec
import pytest
from make_vectors import FOLDER, make_files, message_json, type_name

from gameserver.errors import ProtocolError
from gameserver.protocol import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    Limits,
    decode_client,
    decode_server,
    encode_client,
    pack,
)
from gameserver.state import Entity, List, Map, Mirror, Tree, owner_only, quantized, to_plain


def load(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict):
        if "$binary" in value:
            return bytes.fromhex(value["$binary"])
        if "$number" in value:
            return float(value["$number"])
        if "$map" in value:
            return {from_json(key): from_json(item) for key, item in value["$map"]}
        return {key: from_json(item) for key, item in value.items()}
    return value


def named(vectors):
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


@pytest.mark.parametrize("name", sorted(make_files()))
def test_the_files_are_what_the_generator_makes(name):
    """When this fails on purpose: python tests/protocol/make_vectors.py"""
    assert (FOLDER / name).read_text(encoding="utf-8") == make_files()[name]


def test_every_message_type_has_a_vector():
    said = {vector["message"]["type"] for vector in load("client.json") + load("server.json")}
    assert said == {type_name(kind) for kind in (*CLIENT_MESSAGES.values(), *SERVER_MESSAGES.values())}


@pytest.mark.parametrize("vector", named(load("client.json")))
def test_client_messages(vector):
    data = bytes.fromhex(vector["hex"])
    message = decode_client(data)
    assert message_json(message) == vector["message"]
    assert encode_client(message) == data


@pytest.mark.parametrize("vector", named(load("server.json")))
def test_server_messages(vector):
    assert message_json(decode_server(bytes.fromhex(vector["hex"]))) == vector["message"]


@pytest.mark.parametrize("vector", named(load("bad.json")))
def test_bad_messages(vector):
    with pytest.raises(ProtocolError) as refused:
        decode_client(bytes.fromhex(vector["hex"]), Limits(**vector.get("limits", {})))
    assert refused.value.code == vector["error"]


# --- state ------------------------------------------------------------------------------------------------------------
class Reader:
    """A mirror as someone would write it who has nothing but docs/protocol.md: nodes by id, plain data inside."""

    def __init__(self, schema: list[Any], literal: list[Any]) -> None:
        self.schema = list(schema)
        self.nodes: dict[
            int, dict[str, Any]
        ] = {}  # id → {"class": number, "values": dict or list, "at": (parent, key)}
        self.root = self.value(literal)["id"]

    def apply(self, ops: list[Any], parts: list[list[Any]]) -> None:
        for part in (ops, *parts):
            for op in part:
                self.op(op)
        self.sweep()

    def op(self, op: Any) -> None:
        if isinstance(op, int):
            if op in self.nodes:
                self.unplace(self.nodes[op], everywhere=True)
            return
        if op[0] == "schema":
            self.schema[op[1] - 2 :] = [op[2]]
            return
        node = self.nodes.get(op[0])
        if node is None:
            return
        sets, structure = (op[1:], []) if len(op) % 2 else (op[1:-1], op[-1])
        values = node["values"]
        if node["class"] == 1:
            for start, count, *items in structure:
                values[start : start + count] = [self.placed(item, node, None) for item in items]
        else:
            for key in structure:
                values.pop(key, None)
        for key, wire in zip(sets[::2], sets[1::2], strict=True):
            if node["class"] > 1 and key < 0:
                values[-1 - key] += wire
            else:
                values[key] = self.placed(wire, node, key)

    def placed(self, wire: Any, parent: dict[str, Any], key: Any) -> Any:
        value = self.value(wire)
        if isinstance(value, dict):
            value["at"] = (parent, key)
        return value

    def value(self, wire: Any) -> Any:
        if not isinstance(wire, list):
            return wire
        known = self.nodes.get(wire[0])
        if known is not None:
            self.unplace(known, everywhere=False)
        if len(wire) == 1:
            return known
        number, rest = wire[1], wire[2:]
        node: dict[str, Any] = {"id": wire[0], "class": number, "values": {}, "at": None}
        self.nodes[wire[0]] = node
        if number == 1:
            node["values"] = [self.placed(item, node, None) for item in rest]
        else:
            for key, item in zip(rest[::2], rest[1::2], strict=True) if number == 0 else enumerate(rest):
                node["values"][key] = self.placed(item, node, key)
        return node

    def unplace(self, node: dict[str, Any], *, everywhere: bool) -> None:
        if node["at"] is None:
            return
        parent, key = node["at"]
        values = parent["values"]
        if parent["class"] == 1:
            if everywhere:
                values[:] = [None if value is node else value for value in values]
        elif values.get(key) is node:
            if parent["class"] == 0:
                del values[key]
            else:
                values[key] = None
        node["at"] = None

    def sweep(self) -> None:
        """What the root does not reach any more is forgotten."""
        reached, queue = {}, [self.nodes[self.root]]
        for node in queue:
            reached[node["id"]] = node
            values = node["values"]
            queue.extend(v for v in (values if node["class"] == 1 else values.values()) if isinstance(v, dict))
        self.nodes = reached

    def plain(self, value: Any = None) -> Any:
        node = self.nodes[self.root] if value is None else value
        if not isinstance(node, dict):
            return node
        if node["class"] == 1:
            return [None if item is None else self.plain(item) for item in node["values"]]
        shown = {}
        for key, item in node["values"].items():
            field = self.schema[node["class"] - 2][2][key] if node["class"] > 1 else [key]
            if len(field) == 3 and isinstance(item, int) and not isinstance(item, bool):
                item = item * field[2]
            shown[field[0]] = None if item is None else self.plain(item)
        return shown


@pytest.mark.parametrize("vector", named(load("state.json")))
def test_state(vector):
    literal = msgspec.msgpack.decode(bytes.fromhex(vector["state_hex"]))
    assert literal == from_json(vector["state"])
    mirror = Mirror(vector["schema"])
    mirror.load_full(literal)
    reader = Reader(vector["schema"], literal)
    assert to_plain(mirror.root) == reader.plain() == from_json(vector["expect"])
    for version in vector["versions"]:
        ops = msgspec.msgpack.decode(bytes.fromhex(version["ops_hex"]))
        parts = [msgspec.msgpack.decode(bytes.fromhex(part)) for part in version["parts_hex"]]
        assert ops == from_json(version["ops"])
        assert parts == from_json(version["parts"])
        mirror.apply(ops, parts)
        reader.apply(ops, parts)
        assert to_plain(mirror.root) == from_json(version["expect"])
        assert reader.plain() == from_json(version["expect"])


class Ship(Entity):
    x: float = quantized(0.0, step=0.01)
    hp: int = 100
    ammo: int = owner_only(10)
    cargo: dict


class World(Entity):
    ships: Map[str, Ship]
    log: List[Any]
    extra: Any = None


@pytest.mark.parametrize("seed", range(30))
def test_a_reader_written_from_the_docs_follows_the_real_state(seed):
    dice = random.Random(seed)
    world = World()
    tree = Tree(world)
    viewers = ["alice", "bob"]
    for viewer in viewers:
        tree.add_viewer(viewer)
    tree.flush()
    readers = {viewer: Reader(tree.schema(), msgspec.msgpack.decode(tree.full_state(viewer))) for viewer in viewers}
    for _ in range(60):
        for _ in range(dice.randrange(4)):
            edit(world, tree, dice, viewers)
        patch = tree.flush()
        for viewer, reader in readers.items():
            parts = [msgspec.msgpack.decode(part.ops) for part in patch.parts if viewer in part.receivers]
            reader.apply(msgspec.msgpack.decode(patch.everyone), parts)
            assert reader.plain() == tree.view(viewer)


def edit(world: Any, tree: Tree, dice: random.Random, viewers: list[str]) -> None:
    """One edit, somewhere."""
    ships, key = world.ships, dice.choice("abc")
    ship = ships.get(key)
    match dice.randrange(11):
        case 0:
            ships[key] = Ship(owner=dice.choice(viewers))
        case 1:
            ships.pop(key, None)
        case 2 if ship is not None:
            ship.x += dice.choice([dice.uniform(-1, 1), dice.uniform(-50, 50)])
            ship.ammo -= 1
        case 3 if ship is not None:
            ship.cargo[dice.choice("xy")] = dice.choice([1, [2, {"k": 3}], {"n": None}, b"b"])
        case 4 if ship is not None:
            ship.owner = dice.choice([None, *viewers])
        case 5 if ship is not None:
            ship.audience = dice.choice([None, "red", "blue"])
        case 6:
            dice.choice([tree.group("red").add, tree.group("blue").add])(dice.choice(viewers))
        case 7:
            dice.choice([tree.group("red").discard, tree.group("blue").discard])(dice.choice(viewers))
        case 8:
            world.log.insert(dice.randrange(len(world.log) + 1), dice.choice([1, {"a": [1]}, [2]]))
        case 9 if len(world.log):
            del world.log[dice.randrange(len(world.log))]
        case 10:
            world.extra = dice.choice([None, {"a": 1}, [1, 2], 5])


def test_json_forms_come_back():
    value = {"a": [b"\x00", {1: 2}, 1.5, None]}
    assert from_json(make_vectors.to_json(value)) == value
    assert msgspec.msgpack.decode(pack(value)) == value
