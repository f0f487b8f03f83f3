"""When to try again."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from gameserver.client.errors import ConnectionLost
from gameserver.client.reconnect import (
    NOT_FOUND_SECONDS,
    STABLE_SECONDS,
    Backoff,
    ReconnectPolicy,
    Route,
    may_join_again,
)
from gameserver.errors import GameServerError, MatchEnded, MatchNotFound, ServerDraining

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


def test_what_failed_attempts_added_is_over_with_a_connection() -> None:
    """The server is back: it is not its fault how long it was away."""
    backoff = Backoff(POLICY, lambda: 1.0, 0.0)
    assert [backoff.next(0.0) for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 8.0]
    backoff.lost_again(70.0, good=True)
    assert [backoff.next(129.0) for _ in range(2)] == [0.5, 1.0]


def test_connections_that_do_not_last_make_pauses_grow_until_one_does() -> None:
    """A server that takes everybody and falls over is not helped by everybody coming back at once."""
    backoff = Backoff(POLICY, lambda: 1.0, 0.0)
    pauses = []
    for _ in range(6):
        backoff.lost_again(0.0, good=False)
        pauses.append(backoff.next(0.0))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    backoff.lost_again(0.0, good=True)
    assert backoff.next(0.0) == 0.5


LOST = ConnectionLost()


def test_with_one_address_there_is_always_a_pause() -> None:
    """Its clients must not all be back in the moment in which it went."""
    route = Route(1, POLICY, lambda: 1.0, 0.0)
    route.lost(0.0, 0, 100.0, LOST)
    assert [route.next(0.0) for _ in range(3)] == [(0.5, 0), (1.0, 0), (2.0, 0)]


def test_after_a_good_connection_the_other_addresses_come_at_once() -> None:
    route = Route(3, POLICY, Random(1).random, 0.0)
    route.lost(0.0, 1, STABLE_SECONDS, LOST)
    first, second = route.next(0.0), route.next(0.0)
    assert {first, second} == {(0.0, 0), (0.0, 2)}
    for longest in (0.5, 1.0, 2.0):  # then a pause, and all of them, the one that was lost too
        steps = [route.next(0.0) for _ in range(3)]
        assert {step[1] for step in steps if step is not None} == {0, 1, 2}
        assert [step[0] > 0 for step in steps if step is not None] == [True, False, False]
        assert steps[0] is not None
        assert longest / 5 <= steps[0][0] <= longest


def test_from_where_a_match_is_run_every_address_is_another_one() -> None:
    route = Route(1, POLICY, lambda: 1.0, 0.0)
    route.lost(0.0, None, STABLE_SECONDS, LOST)
    assert [route.next(0.0) for _ in range(2)] == [(0.0, 0), (0.5, 0)]


@pytest.mark.parametrize(("error", "pause"), [(ServerDraining(), 0.0), (LOST, 1.0)])
def test_a_short_connection_was_good_only_if_the_server_said_that_it_goes(
    error: GameServerError, pause: float
) -> None:
    route = Route(2, POLICY, lambda: 1.0, 0.0)
    route.lost(0.0, 0, 0.1, error)
    assert route.next(0.0) == (pause, 1)


def test_the_clients_of_a_server_that_is_gone_are_spread_over_the_others() -> None:
    first = Counter[int]()
    for seed in range(300):
        route = Route(4, POLICY, Random(seed).random, 0.0)
        route.lost(0.0, 2, 60.0, LOST)
        step = route.next(0.0)
        assert step is not None
        first[step[1]] += 1
    assert first.keys() == {0, 1, 3}
    assert all(count > 60 for count in first.values())


def test_a_route_ends_when_it_is_time_to_give_up() -> None:
    route = Route(2, POLICY, Random(1).random, 0.0)
    assert route.next(59.0) is not None
    assert route.next(61.0) is not None  # begun is done
    assert route.next(61.0) is None


def test_which_answers_to_a_rejoin_are_worth_another_try() -> None:
    assert may_join_again(ServerDraining(), 100.0)
    assert not may_join_again(MatchEnded(), 0.0)
    assert may_join_again(MatchNotFound(), 0.0)  # perhaps on its way to another server
    assert not may_join_again(MatchNotFound(), NOT_FOUND_SECONDS)


@pytest.mark.parametrize("bad", [(0.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 1.0, 0.0)])
def test_what_is_no_policy(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="pauses"):
        ReconnectPolicy(*bad)
