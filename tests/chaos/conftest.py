"""Fleets for single tests: whatever a test does to them, nothing of them is left afterwards."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.chaos.fleet import Fleet
from tests.chaos.report import Report
from tests.chaos.rounds import Chaos

Begin = Callable[..., Awaitable[Chaos]]


@pytest.fixture
def seed() -> int:
    """From `SEED`, or drawn; shown when the test fails."""
    seed = int(os.environ.get("SEED", "0")) or Random().randrange(1, 2**32)
    print("SEED", seed)
    return seed


@pytest.fixture
async def begin(tmp_path: Path, seed: int) -> AsyncIterator[Begin]:
    """Start a fleet with players on it: `await begin(matches, players_per_match, actions_per_second)`."""
    async with AsyncExitStack() as stack:

        async def start(*args: Any, fleet: Fleet | None = None, **options: Any) -> Chaos:
            chaos = Chaos(fleet or Fleet(tmp_path), Report(seed), Random(seed))
            stack.push_async_callback(chaos.end)
            await chaos.start(*args, **options)
            return chaos

        yield start


def shown(chaos: Chaos) -> str:
    """What to say when a promise is broken."""
    found = chaos.report.found
    return "\n".join([*chaos.report.lines(), *found.lost, *found.duplicated, *found.problems])
