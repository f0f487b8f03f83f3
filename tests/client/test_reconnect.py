"""When to try again."""

from __future__ import annotations

from random import Random

import pytest

from gameserver.client.reconnect import NOT_FOUND_SECONDS, STABLE_SECONDS, Backoff, ReconnectPolicy, may_join_again
from gameserver.errors import MatchEnded, MatchNotFound, ServerDraining

POLICY = ReconnectPolicy(delay_seconds_min=0.5, delay_seconds_max=8.0, give_up_seconds=60.0)


def test_pauses_double_up_to_the_longest_and_are_drawn() -> None:
    longest = Backoff(POLICY, lambda: 1.0, 0.0)
    assert [longest.next(1.0) for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    shortest = Backoff(POLICY, lambda: 0.0, 0.0)
    assert [shortest.next(1.0) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.4])
    drawn = {Backoff(POLICY, Random(seed).random, 0.0).next(0.0) for seed in range(50)}
    assert len(drawn) == 50


def test_it_gives_up_after_its_time_and_never_overflows() -> None:
    backoff = Backoff(POLICY, lambda: 1.0, 100.0)
    assert all(backoff.next(159.9) for _ in range(3000))
    assert backoff.next(160.0) is None


def test_only_a_connection_that_lasted_makes_pauses_small_again() -> None:
    backoff = Backoff(POLICY, lambda: 1.0, 0.0)
    for _ in range(4):
        backoff.next(0.0)
    backoff.lost_again(70.0, STABLE_SECONDS - 1)
    assert backoff.next(129.0) == 8.0
    backoff.lost_again(200.0, STABLE_SECONDS)
    assert backoff.next(200.0) == 0.5


def test_which_answers_to_a_rejoin_are_worth_another_try() -> None:
    assert may_join_again(ServerDraining(), 100.0)
    assert not may_join_again(MatchEnded(), 0.0)
    assert may_join_again(MatchNotFound(), 0.0)  # perhaps on its way to another server
    assert not may_join_again(MatchNotFound(), NOT_FOUND_SECONDS)


@pytest.mark.parametrize("bad", [(0.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 1.0, 0.0)])
def test_what_is_no_policy(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="pauses"):
        ReconnectPolicy(*bad)
