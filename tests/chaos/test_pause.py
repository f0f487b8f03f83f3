"""A process that does not run for a while and does not know: it is fenced, and the state has one history."""

from __future__ import annotations

import pytest

from tests.chaos.conftest import Begin, shown
from tests.chaos.faults import Fault
from tests.chaos.rounds import Chaos


async def pause(chaos: Chaos, seconds: float) -> None:
    """Stop an owner for longer than its lease: others go on with its matches, and it takes part again as a node."""
    fleet, match = chaos.fleet, chaos.matches[0]
    before, epoch = await fleet.owner(match.id), match.players[0].room.position[0]
    assert await chaos.round(Fault("pause node, long", 0, 0.5, seconds)), shown(chaos)
    after = await fleet.owner(match.id)
    assert after is not before
    assert match.players[0].room.position[0] > epoch
    assert "lease_lost" in before.log_text()
    assert chaos.report.takeovers
    assert max(chaos.report.takeovers) < seconds, "somebody else went on meanwhile"
    assert await chaos.round(Fault("kill owner", 0, 0.0, 0.0)), shown(chaos)


@pytest.mark.slow
async def test_an_owner_is_stopped_for_longer_than_its_lease(begin: Begin) -> None:
    await pause(await begin(3, 3, 8), 4.5)


@pytest.mark.chaos
async def test_an_owner_is_stopped_for_ten_seconds(begin: Begin) -> None:
    await pause(await begin(6, 4, 8), 10.0)
