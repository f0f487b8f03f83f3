"""What authors declare, and what they are told when they get it wrong."""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any, ClassVar, Literal

import msgspec
import pytest

from gameserver.errors import StateError
from gameserver.state import Entity, Map, Tree, owner_only, quantized, server_only


class Ship(Entity):
    SPEED: ClassVar[float] = 3.0
    hp: int = 100
    x: float = quantized(0.0, step=0.5)
    kind: Literal["scout", "tank"] = "scout"
    note: str | None = None
    ammo: int = owner_only(10)
    heading: float = owner_only(quantized(0.0, step=0.1))
    seed: int = server_only(0)

    def faster(self) -> float:
        return self.SPEED * 2


class Fleet(Entity):
    ships: Map[str, Ship]


def changed(tree: Tree) -> Any:
    return msgspec.msgpack.decode(tree.flush().everyone)


def test_defaults_and_methods() -> None:
    """An entity is an ordinary object with defaults."""
    ship = Ship(hp=5, owner="ann")
    assert (ship.hp, ship.x, ship.kind, ship.note, ship.ammo, ship.owner) == (5, 0.0, "scout", None, 10, "ann")
    assert ship.faster() == 6.0


class Named:
    """A mixin that knows nothing of entities."""

    @property
    def title(self) -> str:
        return f"{self.rank} {self.name}"

    @title.setter
    def title(self, value: str) -> None:
        self.rank, self.name = value.split()

    rank: str
    name: str


class Sailor(Named, Entity):
    rank: str = "Seaman"
    name: str = "Jim"


class Armed(Entity):
    guns: int = 2


class Captain(Sailor, Armed):
    ships: Map[str, Ship]


def test_entities_are_ordinary_objects() -> None:
    """Mixins, properties with setters, two entity classes combined, weak references, copies."""
    captain = Captain(owner="ann", ships={"a": Ship(hp=1)})
    captain.title = "Captain Ahab"
    captain.guns += 1
    assert (captain.rank, captain.name, captain.title, captain.guns) == ("Captain", "Ahab", "Captain Ahab", 3)
    assert vars(captain)["name"] == "Ahab"
    assert weakref.ref(captain)() is captain
    for made in (captain.copy(), copy.copy(captain), copy.deepcopy(captain)):
        assert type(made) is Captain
        assert (made.name, made.owner, made.ships["a"].hp) == ("Ahab", "ann", 1)
        assert made.ships["a"] is not captain.ships["a"]
    with pytest.raises(StateError, match=r"Captain\.guns cannot be deleted"):
        del captain.guns
    with pytest.raises(StateError, match=r"Captain\.guns must fit 64 bits"):
        captain.guns = 2**63


def test_undeclared_names_are_refused() -> None:
    """What is not declared would be lost after a restart, and the error says so."""
    with pytest.raises(AttributeError, match="has no field 'shield': declare it"):
        Ship().shield = 3
    with pytest.raises(AttributeError, match="shield"):
        Ship(shield=3)


def test_reserved_names() -> None:
    """A field cannot hide the entity's own attributes."""
    with pytest.raises(StateError, match="owner: this name is taken"):

        class Bad(Entity):
            owner: str = ""


def test_types_that_cannot_be_state() -> None:
    """An annotation that cannot be stored is named with what can."""

    class Bad(Entity):
        when: complex = 0

    with pytest.raises(StateError, match=r"Bad.when: .*cannot be a type of state"):
        Bad()


@pytest.mark.parametrize(("field", "value"), [("hp", "x"), ("hp", 1.5), ("hp", None), ("kind", "plane"), ("x", "1")])
def test_wrong_types(field: str, value: Any) -> None:
    """A value of the wrong type names the field and what was expected."""
    with pytest.raises(StateError, match=f"Ship.{field} must be"):
        setattr(Ship(), field, value)


def test_an_int_is_a_float() -> None:
    """An integer may be stored in a float field, and becomes one."""
    ship = Ship(x=3)
    assert type(ship.x) is float


def test_quantized_is_sent_when_it_shows() -> None:
    """A quantized number is held exactly and sent as an integer, only when that changed."""
    fleet = Fleet(ships={"a": Ship()})
    tree = Tree(fleet)
    ship = fleet.ships["a"]
    ship.x = 0.2
    assert changed(tree) == []
    ship.x = 0.3
    assert changed(tree) == [[ship._id, 1, 1]]
    assert ship.x == 0.3


def test_a_quantized_field_is_added_to_where_that_is_shorter() -> None:
    """Far from zero a step takes one or two bytes, the place it leads to three or more."""
    fleet = Fleet(ships={"a": Ship()})
    tree = Tree(fleet)
    ship = fleet.ships["a"]
    sent = []
    places = (100.0, 127.5, 128.0, 191.5, 127.5, 127.0, 1e9, 1e9 + 0.5, 2.0**41, 2.0**41 + 0.5, -128.5, -129.0)
    for x in (*places, math.inf, 500.0):
        ship.x = x
        sent.append(changed(tree)[0][1:])
    assert sent == [
        [1, 200], [1, 255], [-2, 1], [-2, 127], [1, 255], [1, 254], [1, 2 * 10**9], [-2, 1], [1, 2**42], [1, 2**42 + 1],
        [1, -257], [-2, -1], [1, math.inf], [1, 1000],
    ]  # fmt: skip


def test_only_public_fields_are_added_to() -> None:
    """A new owner gets the value of an `owner_only` field in the same flush: adding to that would count twice."""
    fleet = Fleet(ships={"a": Ship(owner="ann", heading=100.0)})
    tree = Tree(fleet)
    tree.add_viewer("ann")
    tree.flush()
    fleet.ships["a"].heading = 100.1
    assert [msgspec.msgpack.decode(part.ops)[0][1:] for part in tree.flush().parts] == [[5, 1001]]


def test_back_to_what_it_was() -> None:
    """A field that changed and changed back is not sent."""
    fleet = Fleet(ships={"a": Ship()})
    tree = Tree(fleet)
    fleet.ships["a"].hp = 3
    fleet.ships["a"].hp = 100
    assert changed(tree) == []


def test_cost_follows_changes() -> None:
    """The patch of one field is a few bytes, however large the state."""
    fleet = Fleet(ships={str(i): Ship() for i in range(1000)})
    tree = Tree(fleet)
    fleet.ships["500"].hp = 1
    assert len(tree.flush().everyone) < 10


def test_a_class_met_later() -> None:
    """A class that no annotation names is added to the schema when it first comes."""

    class Surprise(Entity):
        n: int = 1

    class Any_(Entity):
        held: Any = None

    root = Any_()
    tree = Tree(root)
    root.held = Surprise()
    ops = changed(tree)
    assert ops[0] == ["schema", 3, ["Surprise", 1, [["n", "int"]]]]
    assert tree.schema()[1][0] == "Surprise"


def test_schema_hides_server_only() -> None:
    """Clients do not even learn the names of server_only fields."""
    Tree(Fleet())
    schema = Tree(Fleet()).schema()
    assert schema[1] == [
        "Ship",
        4,
        [
            ["hp", "int"],
            ["x", "float", 0.5],
            ["kind", "any"],
            ["note", "str"],
            ["ammo", "int"],
            ["heading", "float", 0.1],
        ],
    ]


def test_load_by_name() -> None:
    """A changed class loads what an older one dumped: lost fields are dropped, new ones have their defaults."""

    class OldShip(Entity):
        gone: int = 1
        hp: int = 100

    class OldFleet(Entity):
        ships: Map[str, OldShip]

    OldShip.__name__ = "Ship"
    old = Tree(OldFleet(ships={"a": OldShip(hp=7)}))
    fleet = Fleet()
    tree = Tree.load(old.dump(), fleet)
    assert fleet.ships["a"].hp == 7
    assert fleet.ships["a"].ammo == 10
    fleet.ships["a"].hp = 8
    assert changed(tree)[0][1:] == [0, 8]


def test_load_says_what_does_not_fit() -> None:
    """A value that no longer fits its field is named."""

    class Old(Entity):
        ships: str = "text"

    with pytest.raises(StateError, match=r"Fleet\.ships must be"):
        Tree.load(Tree(Old()).dump(), Fleet())


class Chest(Entity):
    coins: int = 0


class Keeper(Entity):
    hoard: Map[str, Chest] = server_only()


class Hall(Entity):
    keepers: Map[str, Keeper]


def test_what_is_in_a_server_only_field_is_for_nobody() -> None:
    """Not for the owner of the entity either, neither when it comes nor when it changes."""
    hall = Hall()
    tree = Tree(hall)
    hall.keepers["k"] = Keeper(owner="ann")
    tree.flush()
    hall.keepers["k"].hoard["c"] = Chest(coins=1)
    assert tree.flush().parts == []
    hall.keepers["k"].hoard["c"].coins = 7
    patch = tree.flush()
    assert (msgspec.msgpack.decode(patch.everyone), patch.parts) == ([], [])
    assert tree.view("ann") == {"keepers": {"k": {}}}
