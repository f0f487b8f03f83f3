"""Locust users that play the arena over the binary WebSocket protocol.

    make load USERS=200 TIME=60s RATE=10            # starts a server for it, headless
    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000    # locust's web page, against a running server

What the names in the report mean:
    HTTP token                    a guest token from the server's HTTP API (left out with --secret)
    WS connect, WS join           until the welcome; until the full state is there and loaded
    ACT HIGH/NORMAL … ack         from sending an action to its acknowledgement, the network included
    ACT … visible in state        from sending to the frame that says the action is part of the state it carries
    RECV patch (interval)         one line per received frame: time since the one before, and its bytes
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
import urllib.request
from pathlib import Path
from typing import Any

import gevent
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from gameserver.access import Role, issue_token
from loadtests.player import Player

DRAIN_SECONDS = 3.0


@events.init_command_line_parser.add_listener
def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be turned."""
    parser.add_argument("--rate", type=float, default=10.0, help="NORMAL actions per second and player")
    parser.add_argument("--fire-rate", type=float, default=0.5, help="HIGH actions per second and player")
    parser.add_argument("--game", default="arena", help="the game to join: it must have `steer` and `fire`")
    parser.add_argument("--final-csv", default="", help="path and start of name of the final CSV files")
    parser.add_argument("--secret", default="", help="sign tokens with this secret instead of asking for guest tokens")
    parser.add_argument(
        "--mirrored", type=float, default=0.25,
        help="share of players that keep a full mirror of the state; the others only decode",
    )  # fmt: skip


def options_of(environment: Environment) -> Any:
    """The command line; locust leaves it out only where it is used as a library."""
    return environment.parsed_options


@events.quitting.add_listener
def write_final(environment: Environment, **_: Any) -> None:
    """Locust's own CSV files are up to a second old at the end, and the last second is when things go wrong."""
    prefix = options_of(environment).final_csv
    if prefix:
        tables = StatsCSV(environment, PERCENTILES_TO_REPORT)
        with Path(f"{prefix}_stats.csv").open("w", newline="") as stream:
            tables.requests_csv(csv.writer(stream))
        with Path(f"{prefix}_failures.csv").open("w", newline="") as stream:
            tables.failures_csv(csv.writer(stream))


class ArenaPlayer(User):
    """One player, on a connection of its own."""

    numbers = iter(range(1, 10**9))

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.options = options_of(environment)
        self.fire_share = self.options.fire_rate / self.options.rate
        self.number = next(self.numbers)

    def wait_time(self) -> float:
        """Uneven on purpose: players in step with each other and with the tick would show one phase of it only."""
        return random.uniform(0.5, 1.5) / float(self.options.rate)

    def report(self, kind: str, name: str, milliseconds: float, *, size: int = 0, error: str | None = None) -> None:
        """Into locust's own statistics."""
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=milliseconds,
            response_length=size,
            exception=RuntimeError(error) if error else None,
            context={},
        )

    def on_start(self) -> None:
        """Log in, connect, join."""
        mirrored = random.random() < self.options.mirrored
        step = "token"
        started = time.perf_counter()
        try:
            self.player = Player(str(self.host), self.get_token(), self.report, mirrored=mirrored)
            step = "connect"
            self.player.connect()
            step = "join"
            self.player.join(self.options.game, {})
        except Exception as error:  # noqa: BLE001 - a failed start is a line in the report, whatever its cause
            elapsed = (time.perf_counter() - started) * 1000
            self.report("WS" if step != "token" else "HTTP", step, elapsed, error=f"{type(error).__name__}: {error}")
            raise StopUser from None
        self.receiver = gevent.spawn(self.player.run_receiver)

    def get_token(self) -> str:
        """A guest token, as a new player's client would get it."""
        if self.options.secret:
            return issue_token(
                self.options.secret, f"load-{self.number}", Role.PLAYER, name=f"Load {self.number}",
                now=time.time(), ttl_seconds=86_400,
            )  # fmt: skip
        started = time.perf_counter()
        body = json.dumps({"name": f"Load {self.number}"}).encode()
        request = urllib.request.Request(
            f"{self.host}/v1/auth/guest", data=body, headers={"content-type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
        self.report("HTTP", "token", (time.perf_counter() - started) * 1000)
        return str(answer["token"])

    @task
    def act(self) -> None:
        """Steer; now and then fire as well."""
        if self.player.ended is not None:
            raise StopUser
        try:
            self.player.steer()
            if random.random() < self.fire_share:
                self.player.fire()
        except OSError:
            raise StopUser from None  # the receiver reports why

    def on_stop(self) -> None:
        """Wait for the last answers, then leave."""
        if not hasattr(self, "receiver"):
            return
        deadline = time.monotonic() + DRAIN_SECONDS
        while not self.player.drained() and self.player.ended is None and time.monotonic() < deadline:
            gevent.sleep(0.02)
        self.player.leave()
        self.receiver.kill()
