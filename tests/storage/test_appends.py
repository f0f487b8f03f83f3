"""The call that appends entries, written without hiredis: the same bytes."""

from __future__ import annotations

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from gameserver.storage import Append, Token
from gameserver.storage.journal_codec import decode_entry, encode_entry
from gameserver.storage.redis_appends import AppendCalls
from gameserver.storage.redis_calls import script_sha
from gameserver.storage.shards import shard_of

ids = st.text(min_size=1, max_size=20)
numbers = st.integers(0, 2**40)
entries = st.builds(
    Append, st.builds(Token, ids, ids, numbers, ids), numbers, numbers, st.binary(), numbers.map(lambda n: n % 2**32),
    st.none() | st.integers(0, 20_000),
)  # fmt: skip


@given(st.lists(entries, min_size=1, max_size=8), st.booleans())
def test_the_words_of_a_call(batch: list[Append], replicas: bool) -> None:
    keys: list[object] = ["EVALSHA", script_sha("append"), 2 * len(batch)]
    args: list[object] = ["1" if replicas else ""]
    for entry in batch:
        token = entry.token
        stem = f"gs:{{s{shard_of(token.match_id)}}}:{token.match_id}:"
        keys += (f"{stem}token", f"{stem}journal")
        args += (token.node, token.epoch, token.store, entry.base, entry.version, encode_entry(entry))
        args.append("" if entry.connected is None else entry.connected)
    assert AppendCalls("gs", replicas=replicas).packed(batch) == hiredis.pack_command((*keys, *args))


@given(entries)
def test_an_entry_knows_its_place(append: Append) -> None:
    entry = decode_entry(encode_entry(append))
    assert (entry.base, entry.version, entry.epoch, entry.state_version, entry.payload) == (
        append.base, append.version, append.token.epoch, append.state_version, append.payload,
    )  # fmt: skip
