"""The web server: the WebSocket, the HTTP API and what operators ask, on one port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from gameserver.errors import ServerDraining
from gameserver.web.api import SOCKET_PATH, HttpApi, plain_errors
from gameserver.web.connections import Connections
from gameserver.web.context import Authenticator, SocketLimits
from gameserver.web.health import Health
from gameserver.web.operations import Operations
from gameserver.web.socket import serve_socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gameserver.cluster import Host
    from gameserver.config import Settings
    from gameserver.metrics import Metrics
    from gameserver.storage import DocumentStore
    from gameserver.web.routes import Route

log = structlog.get_logger("gameserver.web")

BACKLOG = 1024  # a lobby that empties at once: more connections wait for their handshake than the default allows


class WebServer:
    """Listens, and closes everything it opened."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        metrics: Metrics,
        *,
        documents: DocumentStore | None,
        check: Callable[[], Awaitable[dict[str, str | None]]] | None,
        update_metrics: Callable[[], None],
        version: str,
        more_routes: tuple[Route, ...] = (),
    ) -> None:
        self._settings = settings
        self.operations = Operations(host, documents, settings)
        authenticator = Authenticator(settings.auth)
        self.connections = Connections(
            host, self.operations, authenticator, metrics, SocketLimits.from_settings(settings)
        )
        body_bytes_max = settings.limits.http_body_bytes_max
        self.http = HttpApi(
            self.operations,
            authenticator,
            metrics,
            version=version,
            development=settings.server.mode == "development",
            body_bytes_max=body_bytes_max,
            more=more_routes,
        )
        self.app = web.Application(middlewares=[plain_errors], client_max_size=body_bytes_max)
        self.app.router.add_get(SOCKET_PATH, self._socket)
        self.http.add_to(self.app)
        Health(host, self.connections, metrics, check, update_metrics, version=version).add_to(self.app)
        self._runner: web.AppRunner | None = None
        self._shared: web.TCPSite | None = None
        self.port = settings.server.port

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        return await serve_socket(request, self.connections)

    async def start(self) -> None:
        """Listen; raises OSError when the address is taken."""
        await self.connections.start()
        # Our own stop closes connections; aiohttp's would wait for each of them in turn.
        runner = web.AppRunner(self.app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        try:
            server = self._settings.server
            shared = True if server.reuse_port else None
            site = web.TCPSite(runner, server.host, server.port, backlog=BACKLOG, reuse_port=shared)
            await site.start()
            self._shared = site if server.reuse_port else None
            if server.direct_port is not None:
                await web.TCPSite(runner, server.host, server.direct_port, backlog=BACKLOG).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def leave_shared_port(self) -> None:
        """Where several processes listen on one port, the others get the new connections from now on."""
        site, self._shared = self._shared, None
        if site is not None:
            await site.stop()

    async def close_connections(self, seconds: float) -> None:
        """Tell every client to reconnect (to whoever serves next), at the same time, within the deadline."""
        await self.connections.close_all(ServerDraining(), seconds)

    async def stop(self) -> None:
        """Stop listening. Health answers until here, so that an orchestrator sees the server go."""
        await self.operations.close()
        self.connections.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
