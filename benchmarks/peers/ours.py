"""Cases of this server alone: idle matches, workers, spectators through an edge."""

from __future__ import annotations

import re
import time

from benchmarks.peers.measure import Phase, Row, Server, Window, drive, running
from benchmarks.peers.servers import GAMESERVER, SETTINGS, Peer, create_matches, entry, workers
from benchmarks.processes import cores, cpu_seconds, memory_bytes, pin

STILL, DESERTED = "no ticks", "20 ticks/s with nobody in them"
ONE, HALF = "1 worker", "1 worker, half of the clients"
TWO, TWO_EDGES = "2 workers, players at their owner", "2 workers, half of the players through an edge"
SPECTATORS = ("0 spectators", "10 spectators", "1,000 spectators")
MATCHES = 5_000
LIGHT_SECONDS = 10.0  # at least: a few per cent of a core are told badly by less
SETTLE_SECONDS = 12.0  # each new match is saved once, and once more when it has been quiet
CALM_SECONDS_MAX = 90.0  # then it is measured as it is, and the row says how long was waited
CALM_STEP_SECONDS = 3.0
CALM_SHARE = 0.93  # of the CPU of the step before: less than that, and it is still catching up with what it missed
WORKERS_CLIENTS = 1_600  # one worker is two thirds busy with them
PLAYERS = 10


def node(name: str, *arguments: str) -> Peer:
    """This server, started in one way or another."""
    return Peer(name, "gs", (*GAMESERVER, *arguments), environment=SETTINGS)


def variants() -> dict[str, Peer]:
    """The rows of the cases here; what is special about each is in the case."""
    alone = {name: node(name) for name in (STILL, DESERTED, ONE, HALF)}
    return alone | {name: node(name, "--workers", "2") for name in (TWO, TWO_EDGES, *SPECTATORS)}


def idle_matches(peer: Peer, seconds: float) -> Row:
    """Matches that nobody is in, once the server has caught up with their making."""
    with running(peer) as server:
        before = memory_bytes(server.process)
        create_matches(server.port, "still" if peer.name == STILL else "deserted", MATCHES)
        calm_after = _wait_until_calm(server)
        cpu, at = cpu_seconds(server.process), time.perf_counter()
        time.sleep(max(seconds, LIGHT_SECONDS))
        used, took = cpu_seconds(server.process) - cpu, time.perf_counter() - at
        rss = memory_bytes(server.process)
    return {"cpu": used / took, "kb": (rss - before) / MATCHES / 1000, "calm_after": calm_after}


def _wait_until_calm(server: Server) -> float:
    """Wait until it needs no less CPU than a moment ago, and not all there is; how long that took."""
    started = time.perf_counter()
    time.sleep(SETTLE_SECONDS)
    before = 1.0
    while (waited := time.perf_counter() - started) < CALM_SECONDS_MAX:
        cpu, at = cpu_seconds(server.process), time.perf_counter()
        time.sleep(CALM_STEP_SECONDS)
        used = (cpu_seconds(server.process) - cpu) / (time.perf_counter() - at)
        if before * CALM_SHARE < used < CALM_SHARE:
            break
        before = used
    return waited


def spread(server: Server, count: int) -> list[int]:
    """Each worker to a core of its own, everything else wherever there is room; their ports."""
    if count == 1:
        return [server.port]
    found = workers(server.process, count)
    known = {process.pid for process in found.values()}
    for core, process in zip(cores(), found.values(), strict=False):
        pin(process, core)
    server.counted = list(found.values())
    server.stores = [child for child in server.process.children(recursive=True) if child.pid not in known]
    return list(found)


def workers_case(peer: Peer, seconds: float) -> Row:
    """The same load; the matches are made on the workers in turn, the players go to their owner or to any worker."""
    count = 1 if peer.name in (ONE, HALF) else 2
    clients = WORKERS_CLIENTS // 2 if peer.name == HALF else WORKERS_CLIENTS
    with running(peer, pin=count == 1) as server:
        ports = spread(server, count)
        who = []
        for place, port in enumerate(ports):
            for number, match in enumerate(create_matches(port, "swarm", clients // PLAYERS // count)):
                for player in range(PLAYERS):
                    through = ports[player % count] if peer.name == TWO_EDGES else port
                    who.append(entry(through, "match", match, f"peer-{place}-{number}-{player}"))
        (window,) = drive(server, peer.protocol, who, [Phase("play", 10, seconds)])
    frames = window.counts["frames"]
    return _shared(window) | {
        "clients": clients,
        "cpu_us": window.server_cpu / max(1, frames) * 1e6,
        "busiest": max(window.cpu) / window.seconds,
        "busiest_us": max(window.cpu) / max(1, frames) * 1e6,
        "delivered": frames / (len(who) * 20 * window.seconds),
    }


def spectators_case(peer: Peer, seconds: float) -> Row:
    """Ten players at the owner, the spectators of their match at the other worker."""
    count = int(re.sub(r"\D", "", peer.name))
    with running(peer, pin=False) as server:
        owner, edge = spread(server, 2)
        (match,) = create_matches(owner, "swarm", 1)
        who = [entry(owner, "match", match, f"peer-{player}") for player in range(PLAYERS)]
        who += [entry(edge, "watch", match, f"watcher-{number}") for number in range(count)]
        (window,) = drive(server, peer.protocol, who, [Phase("play", 10, max(seconds, LIGHT_SECONDS))])
    owner_cpu, edge_cpu = (used / window.seconds for used in window.cpu)
    frames = window.counts["frames"] / window.seconds - PLAYERS * 20
    return _shared(window) | {"spectators": count, "owner": owner_cpu, "edge": edge_cpu, "rate": max(0.0, frames)}


def _shared(window: Window) -> Row:
    others = window.others_cpu / window.seconds
    return {"p50_ms": window.p50_ms, "p99_ms": window.p99_ms, "bench_busy": window.bench_busy, "others": others}
