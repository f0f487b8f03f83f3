"""Metrics: one registry each, names in one style, readable output."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from gameserver.metrics import SECONDS_BUCKETS, DurationsByLabel, Metrics


def test_two_instances_share_nothing() -> None:
    """Two servers in one process count apart."""
    one, other = Metrics(), Metrics()
    one.connections_accepted_total.inc()
    assert one.value("connections_accepted_total") == 1
    assert other.value("connections_accepted_total") == 0


def test_names_follow_one_style() -> None:
    """Prefixed, and the attribute is the metric's name without the prefix."""
    metrics = Metrics()
    names = {family.name for family in metrics.registry.collect()}
    assert all(name.startswith("gameserver_") for name in names)
    attributes = {name.removesuffix("_total") for name in vars(metrics) if name not in ("registry",)}
    assert {name.removeprefix("gameserver_") for name in names} == attributes


def test_render_is_what_prometheus_reads() -> None:
    """Labels and values appear in the text format."""
    metrics = Metrics()
    metrics.matches.labels(game="arena").set(3)
    assert b'gameserver_matches{game="arena"} 3.0' in metrics.render()
    assert metrics.CONTENT_TYPE.startswith("text/plain")


def test_durations_read_like_a_histogram_of_the_library() -> None:
    """What is counted without locks comes out as the library's own histogram would say it."""
    registry = CollectorRegistry()
    library = Histogram("a_seconds", "Text.", ["game"], registry=registry, buckets=SECONDS_BUCKETS)
    ours = DurationsByLabel("a_seconds", "Text.", "game")
    for game, seconds in (("x", 0.0), ("x", 0.0005), ("y", 0.00051), ("x", 3.0), ("y", 10.0), ("y", 99.0)):
        library.labels(game).observe(seconds)
        ours.labels(game).observe(seconds)
    other = CollectorRegistry()
    other.register(ours)
    lines = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    assert generate_latest(other).decode().splitlines() == lines
