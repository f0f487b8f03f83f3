"""The cases: which servers get which load, and what of it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.peers import loads, ours
from benchmarks.peers.measure import Row
from benchmarks.peers.servers import (
    ACKED,
    BARE,
    CHECKED,
    COARSE,
    COLYSEUS,
    NAIVE,
    OURS,
    PICOWS,
    SOCKETIO,
    UNGATED,
    WS,
    Peer,
)


@dataclass(frozen=True)
class Column:
    """One figure of the table; `shape` is a format."""

    title: str
    key: str
    shape: str = ".1f"


BUSY = (Column("server's core", "busy", ".0%"), Column("load's core", "bench_busy", ".0%"))
LATENCY = (Column("p50 ms", "p50_ms"), Column("p99 ms", "p99_ms"))


@dataclass(frozen=True)
class Case:
    """One table: `main` is the figure whose ratios are shown."""

    name: str
    title: str
    servers: tuple[str, ...]
    measure: Callable[[Peer, float], Row]
    """Given the server and the seconds of a window."""
    columns: tuple[Column, ...]
    main: str
    seconds: float
    """About how long one measurement takes, beside the windows."""
    windows: int = 1
    rounds_max: int = 99
    reference: str = COLYSEUS
    more_is_better: bool = False


FRAME = (Column("clients", "clients", ".0f"), Column("CPU µs per delivered frame, inputs included", "cpu_us"))
BYTES = Column("bytes per message", "bytes", ".0f")
DELIVERED = Column("frames delivered", "delivered", ".0%")
ROOMS = (*FRAME, *LATENCY, BYTES, DELIVERED, *BUSY)
FEW = (OURS, BARE, WS, COLYSEUS)

CASES: Sequence[Case] = (
    Case(
        "rooms10", "Rooms of 10: 20 frames/s, 10 inputs/s per client",
        (OURS, ACKED, BARE, PICOWS, WS, NAIVE, COLYSEUS, SOCKETIO),
        partial(loads.play, room=10, clients=1000), ROOMS, "cpu_us", 4,
    ),
    Case("rooms50", "Rooms of 50: 20 frames/s, 10 inputs/s per client", FEW,
         partial(loads.play, room=50, clients=1000), ROOMS, "cpu_us", 4),
    Case("room500", "One room of 500: 20 frames/s, 10 inputs/s per client", FEW,
         partial(loads.play, room=500, clients=500), ROOMS, "cpu_us", 4),
    Case(
        "relay", "HIGH events relayed to rooms of 10: 1,800 sent/s, 18,000 delivered/s, 200 clients",
        (OURS, UNGATED, BARE, WS, COLYSEUS), loads.relay,
        (Column("delivered/s", "rate", ",.0f"), Column("CPU µs per delivered event", "cpu_us"), *LATENCY, *BUSY),
        "cpu_us", 10,
    ),
    Case(
        "saturated", "HIGH events relayed to rooms of 10 as fast as they come back, 500 clients",
        (OURS, UNGATED, BARE, WS, COLYSEUS, SOCKETIO), loads.relay_saturated,
        (Column("delivered/s", "rate", ",.0f"), Column("per CPU second", "rate_cpu", ",.0f"),
         Column("messages/s, frames included", "messages", ",.0f"), *LATENCY, *BUSY),
        "rate", 4, more_is_better=True,
    ),
    Case(
        "ingest", "Inputs, validated and applied: alone (10/s from each of 1,000 clients), and in batches of 48",
        (OURS, BARE, WS, COLYSEUS, CHECKED, SOCKETIO), loads.ingest,
        (Column("pipelined, applied/s", "rate", ",.0f"), Column("per CPU second", "rate_cpu", ",.0f"),
         Column("CPU µs per input alone", "alone_us"),
         Column("CPU µs per frame without inputs", "frame_us"), *BUSY),
        "rate", 5, windows=3, more_is_better=True,
    ),
    Case(
        "entities", "100 entities of 6 fields, 10 of them change in each tick; 300 clients in rooms of 10",
        (OURS, COLYSEUS, COARSE), loads.entities,
        (Column("bytes per frame", "bytes", ".0f"), Column("CPU µs per delivered frame", "cpu_us"), *BUSY),
        "bytes", 4, rounds_max=2,
    ),
    Case(
        "events", "20 events for each client in every tick",
        (OURS, WS, COLYSEUS), loads.events_in_a_tick,
        (Column("events per client and tick", "events"), Column("messages with state or events", "frames", ".2f"),
         Column("acknowledgements", "acks", ".2f"), *BUSY),
        "frames", 4, rounds_max=1,
    ),
    Case(
        "connections", "10,000 idle connections, each with a player in a match (room) of ten",
        (OURS, BARE, WS, COLYSEUS), loads.idle_connections,
        (Column("RSS, kB per connection", "kb"), Column("CPU, of a core", "cpu", ".1%"), *BUSY), "kb", 25,
        rounds_max=1,
    ),
    Case(
        "capacity", f"Most clients on one core: rooms of 10, p99 ≤ {loads.LATENCY_MS_MAX:.0f} ms",
        (OURS, BARE, WS, COLYSEUS), loads.capacity,
        (Column("clients", "clients", ",.0f"), Column("CPU µs per frame with 600", "first_us")), "clients", 40,
        windows=5, rounds_max=3, more_is_better=True,
    ),
    Case(
        "matches", "5,000 idle matches",
        (ours.STILL, ours.DESERTED), ours.idle_matches,
        (
            Column("CPU, of a core", "cpu", ".1%"), Column("kB per match", "kb"),
            Column("calm after, s", "calm_after", ".0f"),
        ),
        "cpu", 45, rounds_max=1,
        reference=ours.STILL,
    ),
    Case(
        "workers", "`--workers`: the same load of 1,600 clients in rooms of 10, all on the same two cores",
        (ours.ONE, ours.HALF, ours.TWO, ours.TWO_EDGES), ours.workers_case,
        (FRAME[0], Column("CPU µs per delivered frame, all workers", "cpu_us"),
         Column("of the busiest worker", "busiest_us"), Column("its core", "busiest", ".0%"), *LATENCY, DELIVERED,
         Column("load's CPU", "bench_busy", ".0%")),
        "busiest_us", 7, reference=ours.ONE,
    ),
    Case(
        "spectators", "Spectators on another node: what they cost the owner of one match of 10 players",
        ours.SPECTATORS, ours.spectators_case,
        (Column("spectators", "spectators", ",.0f"), Column("owner's CPU, of a core", "owner", ".1%"),
         Column("edge's CPU, of a core", "edge", ".1%"), Column("frames/s to spectators", "rate", ",.0f")),
        "owner", 14, rounds_max=2, reference=ours.SPECTATORS[0],
    ),
)  # fmt: skip
