"""Whole servers with everything that can go wrong at once: a few seeds here, as many as you like with `make sim`.

`SIM_SEED=17 pytest tests/simulation/test_seeds.py` runs that one again, the same to the last step.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.seeded import simulate

SEEDS = [int(os.environ["SIM_SEED"])] if os.environ.get("SIM_SEED") else list(range(1, 25))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed(seed: int) -> None:
    world = simulate(seed)
    assert world.counts["acknowledged"] > 50, "somebody was served"


def test_a_seed_is_repeated_to_the_last_step() -> None:
    assert simulate(3).fingerprint() == simulate(3).fingerprint()


@pytest.mark.chaos
def test_many_seeds() -> None:
    first, count = int(os.environ.get("SIM_FIRST", "1000")), int(os.environ.get("SIM_SEEDS", "100"))
    failed = {}
    for seed in range(first, first + count):
        try:
            simulate(seed)
        except AssertionError as failure:
            failed[seed] = str(failure).splitlines()[0]
    assert not failed, "\n".join(failed.values())
