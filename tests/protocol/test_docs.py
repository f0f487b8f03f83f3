"""docs/protocol.md says what the code does: its tables, its examples, its fields."""

import re

import msgspec
import pytest
from make_tables import DOCS, with_tables
from make_vectors import client_vectors, server_vectors

from gameserver import config
from gameserver.protocol import CLIENT_MESSAGES, SERVER_MESSAGES, JoinedInfo, Limits, WelcomeInfo
from gameserver.session import ConnectionPolicy

TEXT = DOCS.read_text(encoding="utf-8")


def test_the_tables_of_errors_are_up_to_date():
    """When this fails on purpose: python tests/protocol/make_tables.py"""
    assert with_tables(TEXT) == TEXT


def test_the_examples_are_vectors():
    known = {vector["hex"] for vector in client_vectors() + server_vectors()}
    blocks = re.findall(r"```hex\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        assert re.sub(r"\s", "", block) in known, block


@pytest.mark.parametrize(("table", "half"), [(CLIENT_MESSAGES, "client"), (SERVER_MESSAGES, "server")])
def test_every_message_has_a_heading_and_its_fields_in_order(table, half):
    text = TEXT.split("## What a client sends")[1] if half == "client" else TEXT.split("## What the server sends")[1]
    for number, message in table.items():
        name = message.__name__.removesuffix("Message").upper()
        section = text.split(f"### {number} {name}\n")[1].split("\n#")[0]
        shown = re.search(r"`\[(.*?)\]`", section)
        assert shown, name
        fields = [field.split(" = ")[0] for field in re.split(r", ", shown[1])]
        wanted = [str(number), *message.__struct_fields__]
        if name == "ACTION":
            wanted[3] = "action"  # a name or a number: "name" would mislead
        assert fields == wanted


def test_info_maps_are_described():
    for info in (WelcomeInfo, JoinedInfo):
        for field in info.__struct_fields__:
            assert re.search(rf"\b{field}\b", TEXT), field


def test_limits_are_the_defaults():
    settings, policy = config.Settings().limits, ConnectionPolicy()
    for name, value in msgspec.structs.asdict(msgspec.convert(Limits(), Named, from_attributes=True)).items():
        assert f"| `{name}` | {value:,} |" in TEXT
        assert getattr(settings, name) == value
    assert f"| `channels_max` | {policy.channels_max} |" in TEXT
    rate = f"{policy.messages_per_second:g} | on average, with bursts ({policy.messages_burst:g})"
    assert f"| `messages_per_second` | {rate}" in TEXT
    assert (settings.channels_max, settings.messages_per_second, settings.messages_burst) == (
        policy.channels_max,
        policy.messages_per_second,
        policy.messages_burst,
    )
    assert f"`hello_timeout_seconds` ({policy.hello_timeout_seconds:g})" in TEXT
    assert f"| requests at a time | {policy.requests_max} |" in TEXT


class Named(msgspec.Struct):
    message_bytes_max: int
    depth_max: int
    items_max: int
    string_bytes_max: int


def test_links_within_the_page_lead_somewhere():
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(#([^)]+)\)", TEXT):
        assert target in headings, target
