"""The HTTP API under /v1: the table of routes, and how each line of it is answered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiohttp import web

from gameserver.access import Claims, Permission, check_permission
from gameserver.errors import (
    GameNotFound,
    GameServerError,
    InternalError,
    LimitReached,
    MatchNotFound,
    MessageTooLarge,
    NotFound,
    PermissionDenied,
    RequestInvalid,
    ServerDraining,
    StoreUnavailable,
)
from gameserver.lobby import SORTS
from gameserver.web.operations import (
    CreateMatch,
    GuestRequest,
    GuestToken,
    JoinTicket,
    MatchInfo,
    MatchList,
    Operations,
    Profile,
    ProfileChange,
)
from gameserver.web.routes import Api, Call, ErrorBody, ErrorDetail, Parameter, Route, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gameserver.metrics import Metrics
    from gameserver.web.context import Authenticator

log = structlog.get_logger("gameserver.web")

SOCKET_PATH = "/v1/ws"
OPENAPI_PATH = "/v1/openapi.json"
BEARER = "bearer "

LIST_PARAMETERS = (
    Parameter("game", "Only matches of this game.", {"type": "string"}),
    Parameter("not_full", "Only matches with a free seat.", {"type": "boolean"}),
    Parameter("summary.<field>", "Only matches whose summary has this value in that field.", {"type": "string"}),
    Parameter("sort", "Newest first unless said otherwise.", {"enum": list(SORTS)}),
    Parameter("limit", "Matches per page.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    Parameter("cursor", "Where the page before ended: its `next_cursor`.", {"type": "string"}),
)  # fmt: skip


class HttpApi:
    """Answers the routes of the table."""

    def __init__(
        self,
        operations: Operations,
        authenticator: Authenticator,
        metrics: Metrics,
        *,
        version: str,
        development: bool,
        body_bytes_max: int,
        more: tuple[Route, ...] = (),
    ) -> None:
        self._operations = operations
        self._authenticator = authenticator
        self._metrics = metrics
        self._development = development
        self._body_bytes_max = body_bytes_max
        routes = self._routes() + more
        self.api = Api(routes, version, "Matches, joins and profiles. Play goes over the WebSocket at /v1/ws.")
        self._openapi = msgspec.json.encode(self.api.openapi())

    def _routes(self) -> tuple[Route, ...]:
        creating = (GameNotFound, LimitReached, ServerDraining)
        return (
            Route(
                "GET", "/v1/matches", "listMatches", "List running matches.", self._list, reply=MatchList,
                permission=Permission.MATCH_LIST, open_in_development=True, parameters=LIST_PARAMETERS,
                errors=(RequestInvalid,),
            ),
            Route(
                "POST", "/v1/matches", "createMatch", "Create a match for others to join.", self._create,
                reply=MatchInfo, body=CreateMatch, permission=Permission.MATCH_CREATE, status=201, errors=creating,
            ),
            Route(
                "GET", "/v1/matches/{match}", "getMatch", "One running match.", self._get, reply=MatchInfo,
                permission=Permission.MATCH_LIST, open_in_development=True, errors=(MatchNotFound,),
            ),
            Route(
                "POST", "/v1/join", "join", "Find a match of a game with a free seat, or create one; keeps the seat.",
                self._join, reply=JoinTicket, body=CreateMatch, permission=Permission.MATCH_JOIN, errors=creating,
            ),
            Route(
                "POST", "/v1/auth/guest", "guestToken", "A guest's token; in development mode only.", self._guest,
                reply=GuestToken, body=GuestRequest, errors=(PermissionDenied,), tag="users",
            ),
            Route(
                "GET", "/v1/me", "getProfile", "Your own profile.", self._me, reply=Profile,
                permission=Permission.PROFILE_READ, errors=(StoreUnavailable,), tag="users",
            ),
            Route(
                "PATCH", "/v1/me", "updateProfile", "Change fields of your own profile.", self._update_me,
                reply=Profile, body=ProfileChange, permission=Permission.PROFILE_WRITE,
                errors=(StoreUnavailable, LimitReached), tag="users",
            ),
        )  # fmt: skip

    def add_to(self, app: web.Application) -> None:
        """Register every route, and the description of them all."""
        for route in self.api.routes:
            app.router.add_route(route.method, route.path, self._answering(route))
        app.router.add_get(OPENAPI_PATH, self._describe)

    async def _describe(self, request: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")

    # --- one request --------------------------------------------------------------------------------------------------
    def _answering(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        seconds = self._metrics.http_request_seconds.labels(route.path)

        async def answer(request: web.Request) -> web.Response:
            started = time.perf_counter()
            response = await self._answer(route, request)
            seconds.observe(time.perf_counter() - started)
            self._metrics.http_requests_total.labels(route.path, route.method, str(response.status)).inc()
            return response

        return answer

    async def _answer(self, route: Route, request: web.Request) -> web.Response:
        try:
            claims = self._claims(route, request)
            body = await self._body(route, request)
            result = await route.handler(Call(request, claims, body))
            return web.Response(body=msgspec.json.encode(result), status=route.status, content_type="application/json")
        except GameServerError as error:
            return error_response(error)
        except web.HTTPRequestEntityTooLarge:
            return error_response(MessageTooLarge(f"a body has at most {self._body_bytes_max} bytes"))
        except Exception as failure:
            log.error("http_failed", route=route.name, exc_info=failure)
            return error_response(InternalError())

    def _claims(self, route: Route, request: web.Request) -> Claims | None:
        header = request.headers.get("Authorization", "")
        token = header[len(BEARER) :].strip() if header[: len(BEARER)].lower() == BEARER else None
        if route.permission is None or (token is None and route.open_in_development and self._development):
            return None
        claims = self._authenticator.claims(token)
        check_permission(claims.role, route.permission)
        return claims

    async def _body(self, route: Route, request: web.Request) -> Any:
        if route.body is None:
            return None
        raw = await request.read()
        try:
            return msgspec.json.decode(raw or b"{}", type=route.body)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise RequestInvalid(f"The body is not what was expected: {error}") from None

    # --- handlers -----------------------------------------------------------------------------------------------------
    async def _list(self, call: Call) -> MatchList:
        return await self._operations.list_matches(call.request.query)

    async def _get(self, call: Call) -> MatchInfo:
        return await self._operations.match(call.request.match_info["match"])

    async def _create(self, call: Call) -> MatchInfo:
        return await self._operations.create_match(_known(call), call.body)

    async def _join(self, call: Call) -> JoinTicket:
        return await self._operations.find_match(_known(call), call.body, socket_address(call.request))

    async def _guest(self, call: Call) -> GuestToken:
        return self._operations.guest(call.body)

    async def _me(self, call: Call) -> Profile:
        return await self._operations.profile(_known(call))

    async def _update_me(self, call: Call) -> Profile:
        return await self._operations.update_profile(_known(call), call.body)


def _known(call: Call) -> Claims:
    assert call.claims is not None  # noqa: S101 - the route has a permission, so `_claims` gave some
    return call.claims


def socket_address(request: web.Request) -> str:
    """The WebSocket's address as this client would reach it."""
    scheme = "wss" if request.secure or request.headers.get("X-Forwarded-Proto") == "https" else "ws"
    return f"{scheme}://{request.host}{SOCKET_PATH}"


def error_response(error: GameServerError) -> web.Response:
    """Every error has the same body."""
    body = msgspec.json.encode(ErrorBody(ErrorDetail(error.code, error.message, error.retryable)))
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "1"} if status == 503 else None
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


@web.middleware
async def plain_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What aiohttp refuses by itself (no such path, wrong method) looks like every other error."""
    try:
        return await handler(request)
    except GameServerError as error:
        return error_response(error)
    except web.HTTPNotFound:
        missing = f"There is nothing at {request.path[:200]}; the API is described at {OPENAPI_PATH}."
        return error_response(NotFound(missing))
    except web.HTTPException as refused:
        detail = ErrorDetail("request_invalid", refused.reason, False)
        headers = {name: refused.headers[name] for name in ("Allow",) if name in refused.headers}
        return web.Response(
            body=msgspec.json.encode(ErrorBody(detail)), status=refused.status, headers=headers,
            content_type="application/json",
        )  # fmt: skip
