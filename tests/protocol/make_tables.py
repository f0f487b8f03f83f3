"""Writes the tables of errors and close codes in docs/protocol.md: `python tests/protocol/make_tables.py`."""

from __future__ import annotations

import re
from pathlib import Path

from gameserver import errors
from gameserver.errors import GameServerError, close_code_table

DOCS = Path(__file__).parents[2] / "docs" / "protocol.md"
# Never sent to a client: they concern the server's operator or the game's author.
UNSENT = {
    "claim_lost",
    "config_invalid",
    "data_folder_in_use",
    "journal_corrupt",
    "snapshot_corrupt",
    "snapshot_too_new",
    "state_invalid",
}


def error_classes(error: type[GameServerError] = GameServerError) -> list[type[GameServerError]]:
    """All classes of the tree, parents first."""
    own = [error] if error.__module__ == errors.__name__ else []
    return own + [found for child in error.__subclasses__() for found in error_classes(child)]


def error_rows() -> list[str]:
    rows: dict[str, str] = {}
    for error in error_classes():
        if error.code in UNSENT or error is GameServerError:
            continue
        retryable = "yes" if error.retryable else "no"
        rows[error.code] = f"| `{error.code}` | {retryable} | {error.close_code or ''} | {error().message} |"
    return list(rows.values())


def close_rows() -> list[str]:
    return [
        f"| {row.close_code} | `{row.code}` | {'yes' if row.reconnect else 'no'} | {row.meaning} |"
        for row in close_code_table()
    ]


def with_tables(text: str) -> str:
    """The text with its two tables as the errors are now."""
    for head, rows in (("| code | retryable |", error_rows()), ("| close code | code |", close_rows())):
        table = re.compile(rf"({re.escape(head)}[^\n]*\n\|---[^\n]*\n)((?:\|[^\n]*\n|@[A-Z]+@\n)*)")
        assert table.search(text), head
        text = table.sub(lambda found, rows=rows: found[1] + "".join(f"{row}\n" for row in rows), text)
    return text


if __name__ == "__main__":
    DOCS.write_text(with_tables(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
