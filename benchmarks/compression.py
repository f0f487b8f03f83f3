"""`python -m benchmarks.compression`: what permessage-deflate would save and cost, were shared frames deflated once.

Frames as matches make them, each deflated by itself (no context takeover: the only kind that connections can share,
since they join at different times), and, as the bound of what any sharing could do, all of them in one context.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterator

import psutil

from benchmarks.games import Swarm, Swarm50, Swarm500, World
from gameserver.match import Game, Match, User
from gameserver.protocol import Action, encode_client, encode_frame, encode_state

TICKS = 200
INPUT_EVERY_TICKS = 2  # ten a second
LEVEL = 1
TAIL = b"\x00\x00\xff\xff"  # left out by permessage-deflate


def frames(game: type[Game], players: int) -> Iterator[bytes]:
    """The shared frames of some ticks, with inputs as in `benchmarks/peers`; the last one is a full state."""
    dice = random.Random(1)
    match = Match.create(game, "m", options={}, seed=1, now=0.0, wall=0.0)
    sessions = [match.join(User(f"peer-{number}", "", "player"), f"s{number}", 0.0, 0.0) for number in range(players)]
    match.take_output()
    for tick in range(1, TICKS + 1):
        now = tick / game.tick_hz
        if tick % INPUT_EVERY_TICKS == 0 and issubclass(game, Swarm):
            for session in sessions:
                args = [dice.uniform(-1, 1), dice.uniform(-1, 1), dice.getrandbits(31)]
                match.receive(session.id, session.received + 1, "steer", args, now, now, quiet=True)
        match.wake(now, now)
        output = match.take_output()
        if output is not None:
            patch = output.patch.everyone
            yield encode_frame(1, output.epoch, output.version, output.time_ms, output.applied, patch)
    yield encode_state(1, 1, match.version, 0, match.full_state(sessions[0].viewer))


def alone(data: bytes) -> bytes:
    """Deflated by itself."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def in_one_context() -> Callable[[bytes], bytes]:
    """Deflated with all before it."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    return lambda data: (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def timed(deflate: Callable[[bytes], bytes], made: list[bytes]) -> tuple[float, float]:
    """Size after over size before, and microseconds for each."""
    started = time.process_time()
    after = sum(len(deflate(frame)) for frame in made)
    return after / sum(map(len, made)), (time.process_time() - started) / len(made) * 1e6


def inflating(window_bits: int) -> tuple[float, float, float]:
    """What clients that deflate what they send cost: size after over before, µs per action, kB per connection."""
    action = encode_client(Action(1, 1000, 0, [0.123, -0.456, 2**30], 1))
    sent = alone(action) + TAIL
    process, connections = psutil.Process(), 2000
    before = process.memory_info().rss
    inflaters = [zlib.decompressobj(-window_bits) for _ in range(connections)]
    started = time.process_time()
    for inflater in inflaters:
        inflater.decompress(sent)
    us = (time.process_time() - started) / connections * 1e6
    kb = (process.memory_info().rss - before) / connections / 1000
    return (len(sent) - len(TAIL)) / len(action), us, kb


def main() -> None:
    """One line per kind of frame, then what comes in."""
    print(f"{'frames':<28}{'bytes':>8}{'alone':>8}{'µs':>7}{'one context':>13}{'µs':>7}{'µs per receiver':>17}")
    games = (("rooms of 10", Swarm, 10), ("rooms of 50", Swarm50, 50), ("one room of 500", Swarm500, 500),
             ("100 entities, 10 change", World, 10))  # fmt: skip
    for title, game, players in games:
        *ticks, state = frames(game, players)
        for name, made in ((title, ticks), ("  its full state", [state] * 20)):
            share, us = timed(alone, made)
            bound, bound_us = timed(in_one_context(), made)
            joint = f"{bound:>13.0%}{bound_us:>7.0f}" if made is ticks else f"{'–':>13}{'–':>7}"
            mean = sum(map(len, made)) / len(made)
            print(f"{name:<28}{mean:>8.0f}{share:>8.0%}{us:>7.0f}{joint}{us / players:>17.1f}")
    for window_bits in (15, 9):
        share, us, kb = inflating(window_bits)
        print(f"an action, window of 2^{window_bits}: {share:.0%} of it, {us:.1f} µs, {kb:.0f} kB per connection")


if __name__ == "__main__":
    main()
