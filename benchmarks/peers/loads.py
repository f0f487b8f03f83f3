"""The loads that every server gets, and what is read off each of them."""

from __future__ import annotations

import math

from benchmarks.peers.measure import Phase, Row, Window, drive, running
from benchmarks.peers.servers import Peer, connections

TICKS_PER_SECOND = 20
LATENCY_MS_MAX = 100.0  # a tick of 50 ms and as much again
CAPACITY_STEP = 1.06
CAPACITY_STEPS_DOWN, CAPACITY_STEPS_UP = 10, 20  # from a guess that is low while code is being compiled
CAPACITY_TRIES = 2  # one disturbance is no limit
CAPACITY_WINDOWS = 2  # in each of them
CAPACITY_FIRST = 0.85  # of the core, for the first try
RELAY_WARM_UP_SECONDS = 8.0  # what compiles code as it runs stalls for milliseconds until then


def common(window: Window) -> Row:
    """What is in every row."""
    counts = window.counts
    return {
        "busy": window.server_cpu / window.seconds,
        "bench_busy": window.bench_busy,
        "others": window.others_cpu / window.seconds,
        "bytes": counts["bytes"] / max(1, counts["messages"]),
        "p50_ms": window.p50_ms,
        "p99_ms": window.p99_ms,
        "waiting": counts["waiting"],
    }


def per_second(window: Window, count: float) -> Row:
    """Of time, and of the server's CPU time: the same, were the server alone on its core and never waiting."""
    return {"rate": count / window.seconds, "rate_cpu": count / window.server_cpu}


def play(peer: Peer, seconds: float, *, room: int, clients: int) -> Row:
    """Frames to all in a room, ten inputs a second from each."""
    (row,) = play_windows(peer, seconds, room, clients, 1)
    return row


def play_windows(peer: Peer, seconds: float, room: int, clients: int, count: int) -> list[Row]:
    """The same, looked at so often in a row."""
    clients = min(clients, peer.clients_max)
    with running(peer, room) as server:
        who = connections(peer, server.port, "swarm", room, clients)
        later = [Phase("play", 10, seconds, warm_up=0.1)] * (count - 1)
        windows = drive(server, peer.protocol, who, [Phase("play", 10, seconds), *later])
    return [
        common(window) | {
            "clients": clients,
            "cpu_us": window.server_cpu / max(1, window.counts["frames"]) * 1e6,
            "delivered": window.counts["frames"] / (clients * TICKS_PER_SECOND * window.seconds),
        }
        for window in windows
    ]  # fmt: skip


def relay(peer: Peer, seconds: float) -> Row:
    """1,800 events a second, each to a room of ten."""
    with running(peer) as server:
        who = connections(peer, server.port, "swarm", 10, 200)
        (window,) = drive(server, peer.protocol, who, [Phase("shout", 9, seconds, RELAY_WARM_UP_SECONDS)])
    events = window.counts["events"]
    rate = events / window.seconds
    return common(window) | {"rate": rate, "cpu_us": window.server_cpu / max(1, events) * 1e6}


def relay_saturated(peer: Peer, seconds: float) -> Row:
    """Each of 500 clients sends the next event when the last one has come back."""
    clients = min(500, peer.clients_max)
    with running(peer) as server:
        who = connections(peer, server.port, "swarm", 10, clients)
        (window,) = drive(server, peer.protocol, who, [Phase("relay", 0, seconds)])
    events = per_second(window, window.counts["events"])
    return common(window) | events | {"messages": window.counts["messages"] / window.seconds}


def ingest(peer: Peer, seconds: float) -> Row:
    """First only frames; then inputs that arrive alone; then in batches, as fast as they are applied."""
    clients = min(1000, peer.clients_max)
    with running(peer) as server:
        who = connections(peer, server.port, "swarm", 10, clients)
        phases = [Phase("idle", 0, seconds), Phase("play", 10, seconds), Phase("pipeline", 0, seconds)]
        idle, alone, piped = drive(server, peer.protocol, who, phases)
    # Frames cost what they cost without inputs; the rest is the inputs'.
    per_frame = idle.server_cpu / max(1, idle.counts["frames"])
    extra = alone.server_cpu - per_frame * alone.counts["frames"]
    return common(piped) | {
        "alone_us": extra / max(1, alone.counts["inputs"]) * 1e6,
        "frame_us": per_frame * 1e6,
    } | per_second(piped, piped.counts["applied"])


def entities(peer: Peer, seconds: float) -> Row:
    """Clients that only listen to 100 entities of which ten change in each tick."""
    with running(peer) as server:
        who = connections(peer, server.port, "world", 10, 300)
        (window,) = drive(server, peer.protocol, who, [Phase("idle", 0, seconds)])
    return common(window) | {"cpu_us": window.server_cpu / max(1, window.counts["frames"]) * 1e6}


def events_in_a_tick(peer: Peer, seconds: float) -> Row:
    """Ten clients in one room say 40 things a second each: 20 events in every tick, to everybody."""
    clients = 10
    with running(peer) as server:
        who = connections(peer, server.port, "swarm", 10, clients)
        (window,) = drive(server, peer.protocol, who, [Phase("say", 40, seconds)])
    ticks = window.seconds * TICKS_PER_SECOND * clients
    counts = window.counts
    return common(window) | {
        "events": counts["events"] / ticks,
        "frames": (counts["messages"] - counts["acks"]) / ticks,
        "acks": counts["acks"] / ticks,
    }


def idle_connections(peer: Peer, seconds: float) -> Row:
    """Ten thousand in rooms of ten in which nothing happens."""
    clients = 10_000
    with running(peer) as server:
        before = server.process.memory_info().rss
        who = connections(peer, server.port, "lounge", 10, clients)
        (window,) = drive(server, peer.protocol, who, [Phase("idle", 0, seconds, warm_up=5.0)])
    return common(window) | {"kb": (window.rss - before) / clients / 1000, "cpu": window.server_cpu / window.seconds}


def capacity(peer: Peer, seconds: float) -> Row:
    """The most clients with a 99th percentile within a tick and 50 ms: steps of 6 % from a first guess."""

    def fits(clients: int) -> bool:
        return any(fits_once(clients) for _ in range(CAPACITY_TRIES))

    def fits_once(clients: int) -> bool:
        try:
            rows = play_windows(peer, seconds, 10, clients, CAPACITY_WINDOWS)
        except RuntimeError as error:
            print(f"    {clients}: {str(error).splitlines()[0]}", flush=True)
            return False
        for row in rows:
            told = f"p99 {row['p99_ms']:.0f} ms, {row['delivered']:.0%} delivered, server {row['busy']:.0%}"
            print(f"    {clients}: {told}", flush=True)
        return any(0 < row["p99_ms"] <= LATENCY_MS_MAX and row["delivered"] > 0.95 for row in rows)

    sample = play(peer, seconds / 2, room=10, clients=600)
    first = 600 * CAPACITY_FIRST / sample["busy"]
    reach = range(-CAPACITY_STEPS_DOWN, CAPACITY_STEPS_UP + 1)
    steps = [round(first * CAPACITY_STEP**step / 10) * 10 for step in reach]
    at = CAPACITY_STEPS_DOWN
    good = fits(steps[at])
    move = 1 if good else -1
    while 0 <= at + move < len(steps):
        at += move
        if fits(steps[at]) != good:
            return {"clients": steps[at if not good else at - 1], "first_us": sample["cpu_us"]}
    return {"clients": steps[at] if good else math.nan, "first_us": sample["cpu_us"]}
