"""A few rounds of what `make chaos` does for long: nothing acknowledged is lost or done twice, nobody is cut off."""

from __future__ import annotations

import pytest

from tests.chaos.conftest import Begin, shown
from tests.chaos.faults import Fault
from tests.chaos.rounds import run

pytestmark = pytest.mark.slow

TAKEOVER_SECONDS_MAX = 4.0


async def test_nodes_die_and_stop(begin: Begin) -> None:
    """An owner is killed, one is drained, two are killed: carried players keep their sockets, everybody goes on."""
    chaos = await begin(3, 4, 8)
    faults = [
        Fault("kill owner", 0, 0.5, 1.0),
        Fault("drain by command", 1, 0.5, 0.0),
        Fault("kill two nodes", 2, 0.5, 0.0),
    ]
    await run(chaos, faults, len(faults))
    assert chaos.report.good, shown(chaos)
    assert chaos.report.takeovers
    assert max(chaos.report.takeovers) < TAKEOVER_SECONDS_MAX, shown(chaos)


async def test_the_store_dies_and_hangs(begin: Begin) -> None:
    """The store is killed, hangs, and hangs while an owner dies."""
    chaos = await begin(3, 4, 8)
    faults = [
        Fault("kill store", 0, 0.5, 1.0),
        Fault("pause store", 1, 0.5, 3.0),
        Fault("kill owner, store hangs", 2, 0.5, 0.5),
    ]
    await run(chaos, faults, len(faults))
    assert chaos.report.good, shown(chaos)
