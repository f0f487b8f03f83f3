"""Finding matches: listing filters. Pure: works on what it is given."""

from gameserver.lobby.listing import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    SORTS,
    Listing,
    ListingQuery,
    MatchInfo,
    list_matches,
    parse_listing_query,
)

__all__ = [
    "LIMIT_DEFAULT",
    "LIMIT_MAX",
    "SORTS",
    "Listing",
    "ListingQuery",
    "MatchInfo",
    "list_matches",
    "parse_listing_query",
]
