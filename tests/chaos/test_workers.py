"""`gameserver run --workers 3` under players: a worker is killed, the supervisor starts it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.conftest import Begin, shown
from tests.chaos.faults import Fault
from tests.chaos.rounds import run
from tests.chaos.workers import WorkersFleet

pytestmark = pytest.mark.slow


async def test_a_worker_is_killed_under_players(begin: Begin, tmp_path: Path) -> None:
    fleet = WorkersFleet(tmp_path)
    chaos = await begin(3, 4, 6, fleet=fleet)
    before = {node.name: node.pid for node in fleet.nodes}
    killed = await fleet.owner(chaos.matches[0].id)
    await run(chaos, [Fault("kill owner", 0, 0.5, 0.0)], 1)
    assert chaos.report.good, shown(chaos)
    after = {node.name: node.pid for node in fleet.nodes}
    assert {name for name in before if before[name] != after[name]} == {killed.name}
    assert chaos.report.takeovers
