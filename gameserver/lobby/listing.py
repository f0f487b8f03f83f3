"""Listings of matches: filter, sort, page. Works on the matches' public info, wherever it came from.

A match's info is a map with `match` (its id), `game`, `players`, `players_max`, `created_at` (unix seconds) and
`summary` (what the game wants to show); it may hold more, which is passed through.
"""

from __future__ import annotations

import base64
import heapq
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gameserver.errors import RequestInvalid

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
FILTERS_MAX: Final = 8
TEXT_CHARS_MAX: Final = 128
CURSOR_CHARS_MAX: Final = 512
SUMMARY_PREFIX: Final = "summary."
SORTS: Final = ("-created_at", "created_at", "-players", "players")
"""What a listing can be sorted by, the largest first where there is a minus. Equal ones go by match id."""

MatchInfo = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ListingQuery:
    """Which matches, in which order, how many, from where on."""

    game: str | None = None
    not_full: bool = False
    summary: Mapping[str, str] = field(default_factory=dict)
    """Summary fields and the value each must have, written as text (`true`, `5`, `ranked`)."""
    sort: str = SORTS[0]
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One page. `next_cursor` is None on the last one."""

    matches: list[MatchInfo]
    next_cursor: str | None


def parse_listing_query(params: Mapping[str, str]) -> ListingQuery:
    """A query from HTTP parameters (game, not_full, summary.<field>, sort, limit, cursor); others are refused."""
    summary: dict[str, str] = {}
    for name, value in params.items():
        if name.startswith(SUMMARY_PREFIX) and len(name) > len(SUMMARY_PREFIX):
            summary[name.removeprefix(SUMMARY_PREFIX)] = value
        elif name not in ("game", "not_full", "sort", "limit", "cursor"):
            raise RequestInvalid(
                f"there is no parameter {name[:TEXT_CHARS_MAX]!r}: expected game, not_full, {SUMMARY_PREFIX}<field>, "
                "sort, limit or cursor"
            )
        elif len(value) > CURSOR_CHARS_MAX:
            raise RequestInvalid(f"{name}: expected at most {CURSOR_CHARS_MAX} characters")
    if len(summary) > FILTERS_MAX or any(len(k) + len(v) > 2 * TEXT_CHARS_MAX for k, v in summary.items()):
        raise RequestInvalid(f"summary: expected at most {FILTERS_MAX} fields of at most {TEXT_CHARS_MAX} characters")
    sort = params.get("sort", SORTS[0])
    if sort not in SORTS:
        raise RequestInvalid(f"sort: expected one of {', '.join(SORTS)}")
    not_full = params.get("not_full", "false")
    if not_full not in ("true", "false"):
        raise RequestInvalid("not_full: expected true or false")
    limit = params.get("limit", str(LIMIT_DEFAULT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= LIMIT_MAX):
        raise RequestInvalid(f"limit: expected a number from 1 to {LIMIT_MAX}")
    cursor = params.get("cursor")
    if cursor is not None:
        _decode_cursor(cursor, sort)  # refused now rather than after the matches were fetched
    return ListingQuery(params.get("game"), not_full == "true", summary, sort, int(limit), cursor)


def list_matches(infos: Iterable[MatchInfo], query: ListingQuery) -> Listing:
    """The page of matches this query asks for.

    The cursor holds the position in the order, not a count: matches that come and go between two pages neither repeat
    nor hide others (one whose sort value changes meanwhile may).
    """
    after = _decode_cursor(query.cursor, query.sort) if query.cursor is not None else None
    found = ((_position(info, query.sort), info) for info in infos if _matches(info, query))
    wanted = ((position, info) for position, info in found if after is None or position > after)
    page = heapq.nsmallest(query.limit + 1, wanted, key=lambda entry: entry[0])
    more = len(page) > query.limit
    page = page[: query.limit]
    return Listing([info for _, info in page], _encode_cursor(page[-1][0], query.sort) if more else None)


def _matches(info: MatchInfo, query: ListingQuery) -> bool:
    if query.game is not None and info.get("game") != query.game:
        return False
    if query.not_full and info.get("players", 0) >= info.get("players_max", math.inf):
        return False
    summary = info.get("summary") or {}
    return all(name in summary and _is_text_of(summary[name], text) for name, text in query.summary.items())


def _is_text_of(value: Any, text: str) -> bool:
    """Whether a parameter's text stands for this value."""
    if value is None or isinstance(value, bool):
        return text == {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return isinstance(value, str) and text == value


def _position(info: MatchInfo, sort: str) -> tuple[float, str]:
    """Where a match stands in the order: ascending positions give the order asked for."""
    value = float(info.get(sort.removeprefix("-"), 0))
    return (-value if sort.startswith("-") else value, str(info["match"]))


def _encode_cursor(position: tuple[float, str], sort: str) -> str:
    text = json.dumps([sort, *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str, sort: str) -> tuple[float, str]:
    try:
        if len(cursor) > CURSOR_CHARS_MAX:
            raise ValueError
        decoded = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True))
        cursor_sort, value, match_id = decoded
        if type(value) not in (int, float) or not math.isfinite(value) or not isinstance(match_id, str):
            raise ValueError
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise RequestInvalid("cursor: expected one that an earlier page gave") from None
    if cursor_sort != sort:
        raise RequestInvalid("cursor: expected one of a listing with the same sort")
    return float(value), match_id
