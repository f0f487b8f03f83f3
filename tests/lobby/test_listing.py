"""Listing filters: what is shown, in which order, page by page."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver.errors import RequestInvalid
from gameserver.lobby import LIMIT_DEFAULT, LIMIT_MAX, ListingQuery, list_matches, parse_listing_query


def info(match: str, **more):
    return {"match": match, "game": "arena", "players": 1, "players_max": 4, "created_at": 100.0, "summary": {}} | more


def ids(infos, **query):
    return [found["match"] for found in list_matches(infos, ListingQuery(**query)).matches]


def test_without_filters_the_newest_come_first_and_ties_go_by_id():
    infos = [info("b", created_at=5), info("a", created_at=5), info("c", created_at=9)]
    assert ids(infos) == ["c", "a", "b"]


def test_filters_by_game_and_room_left():
    infos = [info("a"), info("b", game="chess"), info("c", players=4), info("d", players=5)]
    assert ids(infos, game="arena") == ["a", "c", "d"]
    assert ids(infos, not_full=True) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("ranked", "ranked", True),
        ("ranked", "rank", False),
        (5, "5", True),
        (5, "5.0", True),
        (5, "6", False),
        (5, "five", False),
        (True, "true", True),
        (True, "1", False),
        (None, "null", True),
        ([1], "[1]", False),
    ],
)
def test_filters_by_a_summary_field_written_as_text(value, text, found):
    assert ids([info("a", summary={"mode": value})], summary={"mode": text}) == (["a"] if found else [])


def test_a_match_without_the_summary_field_is_not_found():
    assert ids([info("a"), {"match": "b", "game": "arena"}], summary={"mode": "null"}) == []


def test_sorts_by_players_both_ways():
    infos = [info("a", players=2), info("b", players=3), info("c", players=1)]
    assert ids(infos, sort="players") == ["c", "a", "b"]
    assert ids(infos, sort="-players") == ["b", "a", "c"]


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 7), st.sampled_from(["created_at", "-created_at"]))
def test_pages_put_together_are_the_whole_listing(ages, limit, sort):
    infos = [info(f"m{number}", created_at=age) for number, age in enumerate(ages)]
    random.Random(1).shuffle(infos)
    seen, cursor = [], None
    while True:
        page = list_matches(infos, ListingQuery(sort=sort, limit=limit, cursor=cursor))
        assert len(page.matches) <= limit
        seen += page.matches
        cursor = page.next_cursor
        if cursor is None:
            break
    sign = -1 if sort.startswith("-") else 1
    assert seen == sorted(infos, key=lambda found: (sign * found["created_at"], found["match"]))


def test_matches_that_end_between_pages_hide_no_others():
    infos = [info(f"m{number}", created_at=number) for number in range(6)]
    page = list_matches(infos, ListingQuery(sort="created_at", limit=3))
    later = list_matches(infos[2:], ListingQuery(sort="created_at", limit=3, cursor=page.next_cursor))
    assert [found["match"] for found in later.matches] == ["m3", "m4", "m5"]


def test_parses_http_parameters():
    query = parse_listing_query({"game": "arena", "not_full": "true", "summary.mode": "x", "sort": "players"})
    assert query == ListingQuery("arena", True, {"mode": "x"}, "players", LIMIT_DEFAULT, None)
    assert parse_listing_query({}) == ListingQuery()


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"gmae": "arena"}, "'gmae'"),
        ({"summary.": "x"}, "'summary.'"),
        ({"not_full": "yes"}, "not_full"),
        ({"sort": "age"}, "sort"),
        ({"limit": "0"}, "limit"),
        ({"limit": str(LIMIT_MAX + 1)}, "limit"),
        ({"limit": "١"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"cursor": "?"}, "cursor"),
        ({"cursor": "W10"}, "cursor"),
        ({"cursor": "x" * 600}, "cursor"),
        ({f"summary.f{n}": "x" for n in range(9)}, "summary"),
        ({"summary.a": "x" * 300}, "summary"),
    ],
)
def test_bad_parameters_are_named(params, says):
    with pytest.raises(RequestInvalid, match=says):
        parse_listing_query(params)


def test_a_cursor_belongs_to_its_sort():
    infos = [info("a"), info("b")]
    cursor = list_matches(infos, ListingQuery(limit=1)).next_cursor
    with pytest.raises(RequestInvalid, match="same sort"):
        parse_listing_query({"sort": "players", "cursor": cursor})


@given(st.text(max_size=60))
def test_any_cursor_is_taken_or_refused(cursor):
    try:
        list_matches([info("a")], parse_listing_query({"cursor": cursor}))
    except RequestInvalid:
        pass
