"""What is found to have changed in an entity: the same as a plain look at each field."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gameserver.errors import StateError
from gameserver.state import Entity, List, Map, Mirror, Tree, entity, owner_only, quantized, server_only, to_plain
from gameserver.state import patch as patching
from gameserver.state.collect import steps
from gameserver.state.patch import PatchEncoder
from tests.state.world import Side

STEP = 0.01
numbers = st.floats() | st.integers(-(2**63), 2**63 - 1) | st.none()
near = st.tuples(st.integers(-400, 400), st.integers(-150, 150)).map(lambda at: (at[0] * STEP, sum(at) * STEP))


class Thing(Entity):
    place: float | None = quantized(0.0, step=STEP)
    held: float | None = owner_only(quantized(0.0, step=STEP))
    kept: float | None = server_only(quantized(0.0, step=STEP))
    either: Any = quantized(0, step=STEP)
    count: int = 0
    name: str = ""


class World(Entity):
    things: Map[str, Thing]


def new_tree() -> tuple[Tree, Thing]:
    tree = Tree(World())
    world: Any = tree.root
    world.things["one"] = thing = Thing(owner="ann")
    tree.add_viewer("ann")
    tree.flush()
    return tree, thing


def put(thing: Thing, value: Any) -> None:
    thing.place = thing.held = thing.kept = thing.either = value


@settings(max_examples=300, deadline=None)
@given(st.tuples(numbers, numbers) | near)
@example((0.005, 0.015))  # halfway between two steps: to the even one
@example((2.0**33, 2.0**33 + 0.005))
@example((float("nan"), -0.0))
@example((2.0**62, None))
@example((10.0, 11.27))  # as far as one byte goes, and farther
@example((10.0, 11.28))
@example((10.0, 8.72))
@example((10.0, 8.71))
@example((2.54, 2.55))  # counts past 255 are added to
@example((2.55, 2.56))
@example((-2.55, -2.56))
def test_quantized_fields_are_sent_as_they_should(pair: tuple[Any, Any]) -> None:
    """For everyone and for the owner: just what `steps` says; for the journal: the exact value."""
    old, new = pair
    tree, thing = new_tree()
    put(thing, old)
    tree.flush()
    put(thing, new)
    was, now = float(old) if isinstance(old, int) else old, float(new) if isinstance(new, int) else new
    patch = tree.flush(journal=True)
    said = msgspec.msgpack.decode(patch.everyone)
    fields = type(thing)._fields
    wanted = []
    for name, before, after in (("place", was, now), ("either", old, new)):
        unchanged = before is after or (type(before) is type(after) and repr(before) == repr(after))
        change = None if unchanged else steps(fields[name], before, after)
        wanted += [] if change is None else [*change]
    assert repr(said) == repr([[thing._id, *wanted]] if wanted else [])
    parts = [msgspec.msgpack.decode(part.ops) for part in patch.parts]
    change = None if repr(was) == repr(now) else steps(fields["held"], was, now)
    assert repr(parts) == repr([] if change is None else [[[thing._id, *change]]])
    row = next((op for op in msgspec.msgpack.decode(patch.journal or b"\x90") if op[0] == thing._id), [0])
    changed = {row[at]: row[at + 1] for at in range(1, len(row), 2)}
    for name, before, after in (("kept", was, now), ("either", old, new)):
        if repr(before) != repr(after):
            assert repr(changed[fields[name].number]) == repr(after)


def test_a_field_that_came_back_is_not_sent() -> None:
    """Whatever happened in between, by writing or by rolling back."""
    tree, thing = new_tree()
    thing.count, thing.name = 5, "x"
    thing.count, thing.name = 0, ""
    mark = tree.mark()
    thing.place = 7.0
    tree.rollback(mark)
    assert tree.flush().everyone == patching.EMPTY_OPS


@pytest.mark.parametrize("again", [True, False])
def test_a_flush_that_fails_takes_nothing_with_it(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one says all that it would have said, and what came since."""
    tree, thing = new_tree()
    mirror = Mirror(tree.schema())
    mirror.load_full(msgspec.msgpack.decode(tree.full_state("*spectators")))
    thing.place, thing.count = 3.0, 4

    def fail(*args: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(patching, "Patch", fail)
        with pytest.raises(MemoryError):
            tree.flush()
    if again:
        thing.count = 0  # as it was before: nothing to say of it
    mirror.apply(msgspec.msgpack.decode(tree.flush().everyone), [])
    assert to_plain(mirror.root) == tree.view("*spectators")
    assert tree.flush().everyone == patching.EMPTY_OPS


class Point(Entity):
    x: float = 0.0
    y: int = 0


class Points(Entity):
    points: Map[str, Point]


def new_point() -> tuple[Tree, Point]:
    tree = Tree(Points())
    points: Any = tree.root
    points.points["one"] = point = Point()
    tree.flush()
    return tree, point


def test_numbers_are_logged_once_for_a_transaction() -> None:
    """Compiled: the entry has all of them as they were, however often they are written."""
    tree, point = new_point()
    for _ in range(2):
        mark = tree.mark()
        for value in range(1, 4):
            point.x, point.y = float(value), value
        assert len(tree.log) - mark == (6 if entity.__file__.endswith(".py") else 1)
        tree.rollback(mark)
        assert (point.x, point.y) == (0.0, 0)
    point.y += 5  # outside any transaction, and after one that was undone
    assert tree.flush() is not patching.EMPTY_PATCH
    assert tree.flush() is patching.EMPTY_PATCH


def test_another_tree_between_two_writes_changes_nothing() -> None:
    """Neither what a transaction leaves when it is undone, nor what a flush says."""
    (tree, point), (other, other_point) = new_point(), new_point()
    point.x = 1.0
    tree.flush()
    mark = tree.mark()
    point.x = 2.0
    other_mark = other.mark()
    other_point.x = 3.0
    point.x, point.y = 4.0, 4
    other.check(other_mark)
    assert other.flush() is not patching.EMPTY_PATCH
    point.x = 5.0
    tree.rollback(mark)
    assert (point.x, point.y, other_point.x) == (1.0, 0, 3.0)
    assert tree.flush() is patching.EMPTY_PATCH


def test_a_flush_that_fails_knows_the_numbers_from_before_all_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, point = new_point()
    mirror = Mirror(tree.schema())
    mirror.load_full(msgspec.msgpack.decode(tree.full_state("*spectators")))

    def fail(*args: Any) -> Any:
        raise MemoryError

    for value in (1, 2, 3):
        mark = tree.mark()
        point.x, point.y = value / 2, value
        tree.check(mark)
        with monkeypatch.context() as patched:
            patched.setattr(patching, "Patch", fail)
            with pytest.raises(MemoryError):
                tree.flush()
    point.x = 0.0  # as it was before them
    mirror.apply(msgspec.msgpack.decode(tree.flush().everyone), [])
    assert to_plain(mirror.root) == tree.view("*spectators") == {"points": {"one": {"x": 0.0, "y": 3}}}
    assert tree.flush() is patching.EMPTY_PATCH


class Plenty(Entity):
    """More numbers than lie within an entity, of all kinds."""

    a: float = 0.0
    b: int = 0
    c: float = quantized(0.0, step=STEP)
    d: float = owner_only(0.0)
    e: int = owner_only(0)
    f: float = owner_only(quantized(0.0, step=STEP))
    g: float = server_only(0.0)
    h: int = server_only(0)
    i: float = 1.5
    j: int = 7
    k: float = quantized(2.0, step=STEP)
    l: float | None = None  # noqa: E741
    m: str = ""


class More(Plenty):
    n: int = 3


class Plenties(Entity):
    all: List[Plenty]


FIELDS = "abcdefghijklmn"
reals = st.floats().map(lambda real: real if real == real else math.nan)  # two NaNs are the same, whatever their sign
writes = st.tuples(st.integers(0, 1), st.sampled_from(FIELDS), reals, st.integers(-(2**63), 2**63 - 1))


def write(entity: Any, name: str, real: float, whole: int) -> None:
    if name == "m":
        entity.m = str(whole)
    elif name != "n" or isinstance(entity, More):
        setattr(entity, name, whole if name in "behjn" else real)


def exact(entity: Entity) -> list[Any]:
    return [msgspec.msgpack.encode(getattr(entity, name)) for name in FIELDS if hasattr(entity, name)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(writes, max_size=8), st.sampled_from(["keep", "undo", "fail"])), max_size=8))
def test_numbers_wherever_they_lie(transactions: list[tuple[list[Any], str]]) -> None:
    """What clients see, what a rollback leaves, what a failed flush repeats and what a journal rebuilds."""
    tree = Tree(Plenties())
    root: Any = tree.root
    root.all.extend([Plenty(owner="ann", a=-0.0, b=9), More(owner="bob")])
    for viewer in ("ann", "bob"):
        tree.add_viewer(viewer)
    tree.flush()
    dumped = msgspec.msgpack.encode(tree.dump())
    sides = [Side(tree, viewer) for viewer in ("ann", "bob")]
    journal = []
    for wrote, then in transactions:
        before = [exact(entity) for entity in root.all]
        mark = tree.mark()
        for which, *what in wrote:
            write(root.all[which], *what)
        if then == "undo":
            tree.rollback(mark)
            assert [exact(entity) for entity in root.all] == before
            continue
        tree.check(mark)
        if then == "fail" and tree.dirty:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(patching, "encode_patch", fail)
                with pytest.raises(ZeroDivisionError):
                    tree.flush(journal=True)
        patch = tree.flush(journal=True)
        for side in sides:
            side.receive(patch)
            assert packed(side.plain) == packed(tree.view(side.viewer))
        if patch.journal is not None:
            journal.append(msgspec.msgpack.decode(patch.journal))
    loaded: Any = Tree.load(msgspec.msgpack.decode(dumped), Plenties(), journal).root
    assert [exact(entity) for entity in loaded.all] == [exact(entity) for entity in root.all]


def packed(view: Any) -> bytes:
    return msgspec.msgpack.encode(view, order="sorted")


def fail(tree: Tree, journal: bool) -> Any:
    PatchEncoder(tree).encode(journal)
    raise ZeroDivisionError


def test_a_field_is_not_an_attribute_of_its_class() -> None:
    thing: Any = More(a=2.0)
    assert (thing.a, thing.n, thing.copy().a) == (2.0, 3, 2.0)
    assert not hasattr(More, "a")
    with pytest.raises(AttributeError):
        _ = More.n
    with pytest.raises(StateError, match=r"More.b must fit 64 bits"):
        thing.b = 2**63
    with pytest.raises(StateError, match=r"More.b must be int, not float"):
        thing.b = 1.5
