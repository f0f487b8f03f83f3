"""Map and List do what dict and list do, and record all of it."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gameserver.errors import StateError
from gameserver.state import Entity, List, Map, Tree


class Thing(Entity):
    n: int = 0


class Root(Entity):
    map: Map[str, Any]
    list: List[Any]
    typed: Map[str, int]
    things: Map[str, Thing]
    spare: Thing | None = None


MAP_EDITS: list[Callable[[Any], Any]] = [
    lambda m: m.__setitem__("a", 9),
    lambda m: m.__setitem__("z", 9),
    lambda m: m.__delitem__("b"),
    lambda m: m.pop("b"),
    lambda m: m.pop("none", 5),
    lambda m: m.popitem(),
    lambda m: m.clear(),
    lambda m: m.setdefault("a", 7),
    lambda m: m.setdefault("y", 7),
    lambda m: m.update({"a": 2, "x": 3}),
    lambda m: m.update([("q", 1)], w=4),
    lambda m: m.__ior__({"c": 8}),
]
LIST_EDITS: list[Callable[[Any], Any]] = [
    lambda x: x.append(9),
    lambda x: x.extend([7, 8]),
    lambda x: x.insert(1, 9),
    lambda x: x.insert(-100, 9),
    lambda x: x.insert(100, 9),
    lambda x: x.pop(),
    lambda x: x.pop(0),
    lambda x: x.pop(-2),
    lambda x: x.remove(2),
    lambda x: x.clear(),
    lambda x: x.reverse(),
    lambda x: x.sort(),
    lambda x: x.sort(key=lambda v: -v, reverse=True),
    lambda x: x.__setitem__(0, 9),
    lambda x: x.__setitem__(-1, 9),
    lambda x: x.__setitem__(slice(1, 2), [5, 6, 7]),
    lambda x: x.__setitem__(slice(3, 1), [5]),
    lambda x: x.__setitem__(slice(None, None, 2), [5, 6]),
    lambda x: x.__delitem__(0),
    lambda x: x.__delitem__(slice(0, 2)),
    lambda x: x.__delitem__(slice(None, None, -2)),
    lambda x: x.__iadd__([4]),
    lambda x: x.__imul__(2),
    lambda x: x.__imul__(0),
]


def plain_result(value: Any) -> Any:
    return list(value) if isinstance(value, List) else dict(value) if isinstance(value, Map) else value


@pytest.mark.parametrize("edit", MAP_EDITS)
def test_map_is_a_dict(edit: Callable[[Any], Any]) -> None:
    """Each way to change a dict has the same result on a Map, reaches a mirror's view, and can be undone in order."""
    plain = {"a": 1, "b": 2, "c": 3}
    root = Root(map=plain)
    tree = Tree(root)
    mark = tree.mark()
    result = edit(root.map)
    tree.rollback(mark)
    assert list(root.map.items()) == list(plain.items())
    expected = dict(plain)
    assert plain_result(edit(root.map)) == plain_result(edit(expected)) == plain_result(result) or result is root.map
    assert list(root.map.items()) == list(expected.items())
    assert tree.view("x")["map"] == expected


@pytest.mark.parametrize("edit", LIST_EDITS)
def test_list_is_a_list(edit: Callable[[Any], Any]) -> None:
    """Each way to change a list has the same result on a List, and can be undone."""
    plain = [3, 1, 2, 2][:3]
    root = Root(list=plain)
    tree = Tree(root)
    mark = tree.mark()
    edit(root.list)
    tree.rollback(mark)
    assert list(root.list) == plain
    expected = list(plain)
    edit(expected)
    edit(root.list)
    assert list(root.list) == expected
    assert tree.dirty or expected == plain


def test_every_mutator_is_ours() -> None:
    """No way to change a dict is inherited unrecorded; and a List has all that a list has."""
    readers = {"__class_getitem__", "__contains__", "__eq__", "__ge__", "__getitem__", "__gt__", "__iter__", "__le__",
               "__len__", "__lt__", "__ne__", "__new__", "__repr__", "__reversed__", "__sizeof__", "get", "items",
               "keys", "values", "__getattribute__", "__doc__", "__hash__"}  # fmt: skip
    for name in vars(dict):
        assert name in vars(Map) or name in readers, name
    for name in vars(list):
        assert hasattr(List, name), name


def test_c_code_cannot_go_behind() -> None:
    """What changes a list without its methods is refused rather than lost."""
    with pytest.raises(TypeError):
        heapq.heappush(List([1, 2]), 0)  # type: ignore[arg-type]


def test_shuffle_keeps_everything() -> None:
    """The standard library's shuffle works on a List, of entities too."""
    root = Root(list=[Thing(n=i) for i in range(20)])
    tree = Tree(root)
    mark = tree.mark()
    Random(3).shuffle(root.list)
    tree.check(mark)
    assert sorted(t.n for t in root.list) == list(range(20))


def test_plain_values_are_copied() -> None:
    """Changing a dict after it was assigned changes nothing in the state."""
    given: dict[str, Any] = {"a": [1, {"b": 2}]}
    root = Root(map=given)
    given["a"].append(3)
    assert isinstance(root.map["a"], List)
    assert isinstance(root.map["a"][1], Map)
    assert root.map == {"a": [1, {"b": 2}]}


def test_copies_are_free() -> None:
    """`copy` gives a node of no tree."""
    root = Root(things={"a": Thing(n=1)})
    Tree(root)
    made = copy.deepcopy(root.things)
    made["a"].n = 5
    assert root.things["a"].n == 1
    assert copy.copy(root.things["a"]).n == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda r: r.typed.__setitem__("a", "x"), "must be int"),
        (lambda r: r.typed.__setitem__("a", True), "must be int"),
        (lambda r: r.typed.__setitem__(3, 1), "must be str"),
        (lambda r: r.map.__setitem__(1.5, 1), "keys are str or int"),
        (lambda r: r.map.__setitem__("a", 2**63), "64 bits"),
        (lambda r: r.map.__setitem__("a", "\ud800"), "valid Unicode"),
        (lambda r: r.map.__setitem__("a", object()), "cannot hold object"),
        (lambda r: r.list.append({1, 2}), "cannot hold set"),
        (lambda r: r.list.append(2**70), "64 bits"),
        (lambda r: setattr(r, "things", {"a": 3}), r"things\['a'\] must be Thing"),
        (lambda r: setattr(r, "list", 3), "must be a list or List"),
    ],
)
def test_wrong_values_are_named(wrong: Callable[[Root], Any], says: str) -> None:
    """A value that cannot be state is refused where it is assigned, and changes nothing."""
    root = Root(typed={"k": 1})
    tree = Tree(root)
    before = tree.dump()
    with pytest.raises(StateError, match=says):
        wrong(root)
    assert tree.dump() == before


def test_a_value_that_holds_itself() -> None:
    """Endless nesting is an error, not a crash."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(StateError, match="nested deeper"):
        Root(list=loop)
    root = Root()
    tree = Tree(root)
    mark = tree.mark()
    inner: Map[str, Any] = Map()
    root.map["a"] = inner
    inner["self"] = inner
    with pytest.raises(StateError, match=r"two places|holds itself"):
        tree.check(mark)
    tree.rollback(mark)
    assert root.map == {}


def test_one_parent() -> None:
    """A node in two places fails the transaction; moving within one, and swapping, do not."""
    root = Root(things={"a": Thing(n=1), "b": Thing(n=2)})
    tree = Tree(root)
    mark = tree.mark()
    root.spare = root.things["a"]
    with pytest.raises(StateError, match=r"two places \(.*'a'.* and .*spare"):
        tree.check(mark)
    tree.rollback(mark)
    mark = tree.mark()
    root.spare = root.things.pop("a")
    root.things["b"], root.spare = root.spare, root.things["b"]
    tree.check(mark)
    assert (root.things["b"].n, root.spare.n) == (1, 2)


def test_a_node_of_another_match() -> None:
    """State of one match cannot be put into another; a copy can."""
    one, other = Root(spare=Thing()), Root()
    Tree(one)
    tree = Tree(other)
    mark = tree.mark()
    other.spare = one.spare
    with pytest.raises(StateError, match="another match"):
        tree.check(mark)
    tree.rollback(mark)
    other.spare = one.spare.copy()  # type: ignore[union-attr]
    tree.check(tree.mark())
