"""The rule for author-defined data in MongoDB."""

from __future__ import annotations

import datetime

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver.errors import RequestInvalid
from gameserver.storage import from_document, to_document
from gameserver.storage.plain import DEPTH_MAX

keys = st.text() | st.text("%$.\x00i0123456789EbBg", max_size=6) | st.integers(-(2**70), 2**70)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary()
)
plain = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)


@given(st.dictionaries(keys, plain))
def test_data_comes_back_as_it_was(data: dict[object, object]) -> None:
    """Through real BSON, whatever the keys and numbers."""
    assert from_document(bson.decode(bson.encode(to_document(data)))) == data


@given(st.dictionaries(keys, plain))
def test_no_key_can_be_an_operator_or_a_path(data: dict[object, object]) -> None:
    """At any depth."""

    def check(value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                assert not set(key) & set("$.\x00")
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    check(to_document(data))


def test_the_escapes_as_documented() -> None:
    """Stored data outlives the code: these texts must not change."""
    assert to_document({"$a.b%\x00": 2**63, 7: (1,), "e": 2**63 - 1}) == {
        "%24a%2Eb%25%00": {"%big": "9223372036854775808"},
        "%i7": [1],
        "e": 2**63 - 1,
    }


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"a": [0, {"b": {1, 2}}]}, r"a\[1\].b: set"),
        ({"a": object()}, "a: object"),
        ({"a": {None: 1}}, "a: a key must be text or a whole number, not NoneType"),
        ({"a": {True: 1}}, "a: a key must be text or a whole number, not bool"),
        ({"a": "\ud800"}, "a: the text is not valid Unicode"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(data: object, place: str) -> None:
    """The author finds the field at once."""
    with pytest.raises(RequestInvalid, match=place):
        to_document(data)


def test_depth_is_limited() -> None:
    """Deeper than MongoDB takes; also for what contains itself."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(RequestInvalid, match=f"deeper than {DEPTH_MAX}"):
        to_document(endless)


def test_foreign_documents_can_be_read() -> None:
    """Somebody may have written keys by hand that only look like ours; times pass through."""
    now = datetime.datetime.now(datetime.UTC)
    assert from_document({"%ix": 1, "%": now, "a": {"%big": 5}}) == {"%ix": 1, "%": now, "a": {"%big": 5}}
