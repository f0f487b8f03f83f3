"""What operators ask: does it live (/healthz), can it take players (/readyz), what does it do (/metrics)."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gameserver.cluster import Host
    from gameserver.metrics import Metrics
    from gameserver.web.connections import Connections

OVERDUE_SHOWN_MAX = 10


class Health:
    """Answers by looking at what is there, each time."""

    def __init__(
        self,
        host: Host,
        connections: Connections,
        metrics: Metrics,
        check: Callable[[], Awaitable[dict[str, str | None]]] | None,
        update_metrics: Callable[[], None],
        *,
        version: str,
    ) -> None:
        self._host = host
        self._connections = connections
        self._metrics = metrics
        self._check = check
        self._update_metrics = update_metrics
        self._version = version

    def add_to(self, app: web.Application) -> None:
        """Register the four."""
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/", self.page)

    async def healthz(self, request: web.Request) -> web.Response:
        """Alive, and its matches move: an answer at all says that the loop turns, the rest that ticks do."""
        overdue = self._host.overdue()
        stuck = [
            {"match": hosted.match_id, "game": hosted.game, "overdue_seconds": round(seconds, 3)}
            for hosted, seconds in overdue[:OVERDUE_SHOWN_MAX]
        ]
        body = {"status": "stuck" if overdue else "ok", "matches": len(self._host), "overdue": stuck}
        return _json(body, 503 if overdue else 200)

    async def readyz(self, request: web.Request) -> web.Response:
        """Can it take players? Names each check, and what is wrong with those that fail."""
        checks: dict[str, str | None] = {}
        if self._check is not None:
            checks.update(await self._check())
        checks["draining"] = "the server is going down" if self._host.draining else None
        failing = [name for name, problem in checks.items() if problem is not None]
        body = {
            "status": "not ready" if failing else "ready",
            "failing": failing,
            "checks": {name: problem or "ok" for name, problem in checks.items()},
        }
        return _json(body, 503 if failing else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus text."""
        self._update_metrics()
        self._connections.update_metrics()
        self._metrics.draining.set(self._host.draining)
        return web.Response(body=self._metrics.render(), headers={"Content-Type": self._metrics.CONTENT_TYPE})

    async def page(self, request: web.Request) -> web.Response:
        """For people who open the address in a browser."""
        counts: dict[str, list[int]] = {name: [0, 0] for name in self._host.registry}
        for hosted in self._host:
            counts[hosted.game][0] += 1
            counts[hosted.game][1] += len(hosted.match.players)
        rows = "".join(
            f'<tr><td><a href="/v1/matches?game={html.escape(name)}">{html.escape(name)}</a></td>'
            f"<td>{matches}</td><td>{players}</td></tr>"
            for name, (matches, players) in counts.items()
        )
        text = PAGE.format(version=html.escape(self._version), rows=rows, connections=len(self._connections))
        return web.Response(text=text, content_type="text/html")


def _json(body: dict[str, Any], status: int) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )  # fmt: skip


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gameserver</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .4rem; text-align: left; }}
code {{ background: #f4f4f4; padding: .1rem .3rem; }} a {{ color: #0550ae; }}
</style></head><body>
<h1>gameserver {version}</h1>
<p>It runs. Clients play over the WebSocket at <code>/v1/ws</code>; {connections} are connected now.</p>
<table><thead><tr><th>game</th><th>matches</th><th>players</th></tr></thead><tbody>{rows}</tbody></table>
<p><a href="/v1/matches">matches</a> · <a href="/v1/openapi.json">HTTP API</a> · <a href="/metrics">metrics</a>
· <a href="/healthz">health</a> · <a href="/readyz">readiness</a></p>
<p>Two clients play with <code>python -m gameserver.examples.bots arena --players 2</code>;
a game of your own begins with <code>gameserver new my_game</code>.</p>
</body></html>
"""
