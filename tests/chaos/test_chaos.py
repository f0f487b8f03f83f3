"""A few rounds of what `make chaos` does for long: nothing acknowledged is lost or done twice, nobody is cut off."""

from __future__ import annotations

import pytest

from tests.chaos.conftest import Begin, shown
from tests.chaos.faults import Fault
from tests.chaos.rounds import run

pytestmark = pytest.mark.slow

NODES = (
    Fault("kill owner", 0, 0.5, 1.0),
    Fault("drain by command", 1, 0.5, 0.0),
    Fault("kill two nodes", 2, 0.5, 0.0),
)
LINES = (
    Fault("line cut, long", 0, 0.5, 4.5),
    Fault("line loses replies", 1, 0.5, 2.0),
)
STORES = (
    Fault("kill store", 0, 0.5, 0.5),
    Fault("pause store", 1, 0.5, 2.5),
    Fault("kill owner, store hangs", 2, 0.5, 0.5),
    Fault("kill owner and mongo", 0, 0.5, 0.5),
)


@pytest.mark.parametrize("faults", [NODES, LINES, STORES], ids=["nodes", "lines", "stores"])
async def test_promises_hold(begin: Begin, faults: tuple[Fault, ...]) -> None:
    chaos = await begin(3, 4, 8)
    await run(chaos, faults, len(faults))
    assert chaos.report.good, shown(chaos)
    assert chaos.report.takeovers, "an owner was away, and nobody saw another one go on"
