"""One seed, from the first server's start to the last one's end."""

from __future__ import annotations

import asyncio

from tests.simulation.faults import Faults
from tests.simulation.loops import others_done
from tests.simulation.world import World, errors_fail

MATCHES = ("diary", "diary", "ticking", "strict_diary", "loose_diary")
ROUNDS = 2
FAULTS_SECONDS = 7.0
CHECK_SECONDS = 0.05


def simulate(seed: int) -> World:
    """Run it; raises what does not hold, with everything that happened."""
    world = World(seed)
    with errors_fail(world):
        try:
            world.timeline.run(_main(world), world.loop)
            world.raise_broken()
        except Exception as failure:
            story = "\n".join(world.notes[-400:])
            what = f"seed {seed}: {failure}"
            again = f"SIM_SEED={seed} pytest tests/simulation/test_seeds.py"
            raise AssertionError(f"{what}\n{story}\n{what}\nagain: {again}") from failure
        finally:
            bury(world)
    return world


async def _main(world: World) -> None:
    rng = world.random
    for name in ("a", "b", "c"):
        world.start_server(name, ("edge", "owner"))
    if rng.random() < 0.6:
        world.start_server("e", ("edge",))
    if rng.random() < 0.4:
        world.start_server("o", ("owner",))
    await others_done([server.started for server in world.servers.values()])
    await asyncio.sleep(1.0)
    await _have_matches(world)
    for number in range(6):
        world.add_player(f"p{number}")
    for number in range(3):
        world.add_player(f"s{number}", spectates=True)
    checking = asyncio.create_task(_check_always(world))
    faults = Faults(world)
    for _ in range(ROUNDS):
        await asyncio.sleep(1.0)
        await faults.run(FAULTS_SECONDS)
        await faults.mend()
        await world.settle()
        await _have_matches(world)
    checking.cancel()
    await _end(world)


async def _have_matches(world: World) -> None:
    """Create, from the players' process, what there is none of (any more)."""
    missing = list(MATCHES)
    for game in world.matches.values():
        missing.remove(game)
    for game in missing:
        task = world.timeline.within(
            world.players_loop, lambda game=game: world.players_loop.create_task(world.create(game))
        )
        await others_done([task])


async def _check_always(world: World) -> None:
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        world.check_owners()


async def _end(world: World) -> None:
    """Everybody goes; nothing is left."""
    stopping = world.timeline.within(
        world.players_loop,
        lambda: [world.players_loop.create_task(player.stop()) for player in world.players],
    )
    await others_done(stopping)
    await asyncio.sleep(0.5)
    if left := world.players_loop.unfinished():
        world.fail(f"players have left tasks behind: {left}")
    for server in list(world.servers.values()):
        server.terminate()
        while server.alive:
            await asyncio.sleep(0.1)
            world.raise_broken()


def bury(world: World) -> None:
    """End what killed processes have left, without a word from them."""
    for server in world.everyone:
        server.loop.kill()
    for loop in [world.players_loop, world.loop, world.store_loop, *(server.loop for server in world.everyone)]:
        loop.kill()
        for task in loop.unfinished():
            try:
                task.get_coro().close()  # type: ignore[union-attr]
            except RuntimeError:
                pass  # it wanted to wait for something in the end
        loop.tasks.clear()

