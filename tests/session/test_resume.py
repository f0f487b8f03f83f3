"""What a client that comes back gets, row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameserver.session import RESUME_TABLE, Answer, Reason, Returning, decide_resume, events_position

# A match in its third epoch, which began with version 100; it has sent up to 150 and keeps 121 to 150.
BACK = Returning(
    session_user="ann", user="ann", epoch=3, version=140, match_epoch=3, base_version=100, sent_version=150, oldest=121
)


@pytest.mark.parametrize(
    ("changes", "reason", "answer"),
    [
        ({}, Reason.CONTIGUOUS, Answer.TAIL),
        ({"version": 150}, Reason.CONTIGUOUS, Answer.TAIL),
        ({"version": 120}, Reason.CONTIGUOUS, Answer.TAIL),
        ({"version": 119}, Reason.TOO_OLD, Answer.FULL),
        ({"version": 150, "oldest": 151}, Reason.CONTIGUOUS, Answer.TAIL),
        ({"version": 149, "oldest": 151}, Reason.TOO_OLD, Answer.FULL),
        ({"version": 151}, Reason.AHEAD, Answer.FULL),
        ({"epoch": 4}, Reason.LATER_EPOCH, Answer.FULL),
        ({"epoch": 2, "version": 100}, Reason.EARLIER_EPOCH, Answer.FULL),
        ({"epoch": 2, "version": 101}, Reason.LOST_HISTORY, Answer.FULL),
        ({"session_user": None}, Reason.UNKNOWN_SESSION, Answer.NO_SESSION),
        ({"session_user": "bob"}, Reason.FOREIGN_SESSION, Answer.NO_SESSION),
        ({"session_user": "bob", "epoch": 4}, Reason.FOREIGN_SESSION, Answer.NO_SESSION),
    ],
)
def test_each_row(changes: dict[str, Any], reason: Reason, answer: Answer) -> None:
    row = decide_resume(replace(BACK, **changes))
    assert (row.reason, row.answer) == (reason, answer)


def test_every_reason_has_a_row_and_the_last_one_takes_all() -> None:
    assert [row.reason for row in RESUME_TABLE] == list(Reason)
    assert RESUME_TABLE[-1].when(BACK)


small = st.integers(0, 12)


@given(epoch=small, version=small, match_epoch=small, base=small, sent=small, kept=small)
def test_a_tail_is_only_ever_what_follows_without_a_gap(
    epoch: int, version: int, match_epoch: int, base: int, sent: int, kept: int
) -> None:
    back = Returning("ann", "ann", epoch, version, match_epoch, base, sent, max(0, sent + 1 - kept))
    answer = decide_resume(back).answer
    assert answer is not Answer.NO_SESSION
    possible = epoch == match_epoch and back.oldest - 1 <= version <= sent
    assert (answer is Answer.TAIL) == possible


@pytest.mark.parametrize(
    ("changes", "events_version", "after"),
    [
        ({}, 130, 130),
        ({}, None, 140),
        ({}, 999, 150),  # nobody has heard what was not sent
        ({"epoch": 2, "version": 110}, 108, 100),  # heard what was lost: the versions that took its place are news
        ({"epoch": 2, "version": 90}, 80, 80),
        ({"epoch": 2, "version": 90}, None, 90),
    ],
)
def test_where_urgent_events_go_on(changes: dict[str, Any], events_version: int | None, after: int) -> None:
    assert events_position(replace(BACK, **changes), events_version) == after
