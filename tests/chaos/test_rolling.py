"""Rolling restarts under acting players, with the same code and with a changed game."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.conftest import Begin, shown
from tests.chaos.faults import ROLLING, Fault
from tests.chaos.fleet import LEDGER, Fleet
from tests.chaos.rounds import run

CHANGED = '''
    state_version = 2

    def on_upgrade(self, old):
        self.upgrades += 1
        self.puts_before = old["puts"]
        self.found_version = old["state_version"]

    bonus: int = 7
    upgrades: int = 0
    puts_before: int = 0
    found_version: int = 0
'''


@pytest.mark.slow
async def test_every_node_is_restarted_under_players(begin: Begin) -> None:
    """No error reaches game code on the client, no match is lost."""
    chaos = await begin(3, 4, 6, faithful=False)
    await run(chaos, [Fault(ROLLING, 0, 0.5, 0.0)], 1)
    assert chaos.report.good, shown(chaos)


@pytest.mark.chaos
async def test_every_node_is_restarted_under_a_hundred_players(begin: Begin) -> None:
    chaos = await begin(10, 10, 4, faithful=False)
    await run(chaos, [Fault(ROLLING, 0, 1.0, 0.0)], 1)
    assert chaos.report.good, shown(chaos)
    print("\n".join(chaos.report.lines()))


@pytest.mark.slow
async def test_a_changed_game_is_rolled_out_under_players(begin: Begin, tmp_path: Path) -> None:
    """A new `state_version` with new fields and `on_upgrade`: matches of the old one move to nodes with the new one."""
    new = tmp_path / "ledger.py"
    new.write_text(LEDGER.read_text().replace('    durability = "async"\n', f'    durability = "async"\n{CHANGED}'))
    assert CHANGED in new.read_text()
    fleet = Fleet(tmp_path)
    chaos = await begin(3, 4, 6, fleet=fleet, faithful=False)
    puts = [match.players[0].room.state.puts for match in chaos.matches]
    for node in fleet.nodes:
        node.games = (str(new),)
    assert await chaos.round(Fault(ROLLING, 0, 0.5, 0.0)), shown(chaos)
    for match, before in zip(chaos.matches, puts, strict=True):
        for player in match.players:
            state = player.room.state
            assert (state.bonus, state.upgrades, state.found_version) == (7, 1, 1)
            assert before <= state.puts_before <= state.puts
