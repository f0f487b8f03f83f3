"""What is declared for the compiler is what the source says: a `.pxd` that lags behind is found without a compiler."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gameserver

PACKAGE = Path(gameserver.__file__).parent
DECLARED = sorted(PACKAGE.rglob("*.pxd"))
_CLASS = re.compile(r"^cdef class (\w+)(?:\((\w+)\))?:\n((?:(?: .*)?\n)*)", re.MULTILINE)
_ATTRIBUTE = re.compile(
    r"^    cdef (?:public |readonly )?((?:unsigned )?(?:long long|char)|[\w.*]+)(?:\[::?1?\])? \*?([\w, ]+)$",
    re.MULTILINE,
)
_METHOD = re.compile(r"^    c(?:p)?def (?:inline )?(?:long long|[\w.]+) (\w+)\(self", re.MULTILINE)
_WITHOUT_SLOT = {"__dict__", "__weakref__"}


def _names(found: list[tuple[str, str]]) -> set[str]:
    return {name.strip() for _, names in found for name in names.split(",")}


def _slots(node: ast.ClassDef) -> set[str] | None:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__slots__":
            return set(re.findall(r"'(\w+)'", ast.unparse(statement.value)))
    return None


@pytest.mark.parametrize("declared", DECLARED, ids=[str(path.relative_to(PACKAGE)) for path in DECLARED])
def test_a_pxd_declares_the_slots_and_methods_of_its_source(declared: Path) -> None:
    source = declared.with_suffix(".py")
    assert source.is_file(), "a .pxd stands beside the module it is for"
    classes = {node.name: node for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef)}
    for name, base, body in _CLASS.findall(declared.read_text()):
        node = classes[name]
        bases = [ast.unparse(found).split("[")[0] for found in node.bases]
        assert not base or base in bases, f"{name} has the base {bases}"
        methods = {found.name for found in node.body if isinstance(found, ast.FunctionDef)}
        assert set(_METHOD.findall(body)) <= methods, f"methods that {name} does not have"
        slots = _slots(node)
        assert slots is not None, f"{name} has no __slots__: it would refuse other attributes only where it is compiled"
        assert _names(_ATTRIBUTE.findall(body)) - _WITHOUT_SLOT == slots - _WITHOUT_SLOT, f"attributes of {name}"


def test_something_is_declared() -> None:
    assert len(DECLARED) > 5
