"""One table of the HTTP API: handlers, permissions, bodies and the OpenAPI description all come from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from gameserver.errors import (
    AuthenticationRequired,
    GameCodeError,
    GameServerError,
    InternalError,
    LimitReached,
    MessageTooLarge,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestInvalid,
    ServerDraining,
    StoreUnavailable,
    TokenInvalid,
)

if TYPE_CHECKING:
    from aiohttp import web

    from gameserver.access import Claims, Permission


@dataclass(slots=True)
class Call:
    """One request, checked: who asks, and what they sent."""

    request: web.Request
    claims: Claims | None
    body: Any


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter, for the description (the handler checks it)."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    reply: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    permission: Permission | None = None
    """None: no token is needed."""
    open_in_development: bool = False
    """In development mode it needs no token either."""
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[type[GameServerError], ...] = ()
    status: int = 200
    tag: str = "matches"


class ErrorDetail(msgspec.Struct):
    """What went wrong: `code` for programs, `message` for people."""

    code: str
    message: str
    retryable: bool


class ErrorBody(msgspec.Struct):
    """The body of every answer that is not a success."""

    error: ErrorDetail


# The first one that fits counts, so subclasses come before what they inherit from.
HTTP_STATUS: tuple[tuple[type[GameServerError], int], ...] = (
    (AuthenticationRequired, 401),
    (TokenInvalid, 401),
    (PermissionDenied, 403),
    (NotFound, 404),
    (MessageTooLarge, 413),
    (RateLimited, 429),
    (RequestInvalid, 400),
    (LimitReached, 503),
    (ServerDraining, 503),
    (StoreUnavailable, 503),
    (InternalError, 500),
    (GameCodeError, 500),
)


def status_of(error: GameServerError | type[GameServerError]) -> int:
    """The HTTP status of an error: what the match refuses (full, ended, …) is 409."""
    kind = error if isinstance(error, type) else type(error)
    return next((status for listed, status in HTTP_STATUS if issubclass(kind, listed)), 409)


@dataclass(frozen=True)
class Api:
    """The table and its description."""

    routes: tuple[Route, ...]
    version: str
    description: str = field(default="")

    def openapi(self) -> dict[str, Any]:
        """OpenAPI 3.1, built from the table: what is served and what is described cannot differ."""
        kinds: list[Any] = [ErrorBody]
        for route in self.routes:
            kinds.extend(kind for kind in (route.reply, route.body) if kind is not None)
        _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
        paths: dict[str, Any] = {}
        for route in self.routes:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
        return {
            "openapi": "3.1.0",
            "info": {"title": "gameserver", "version": self.version, "description": self.description},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            },
        }


def _operation(route: Route) -> dict[str, Any]:
    errors: list[type[GameServerError]] = [*route.errors, InternalError]
    if route.permission is not None:
        errors += [AuthenticationRequired, PermissionDenied]
    if route.body is not None:
        errors += [RequestInvalid, MessageTooLarge]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", route.path)
            ),
            *(
                {"name": p.name, "in": "query", "required": False, "description": p.description, "schema": p.schema}
                for p in route.parameters
            ),
        ],
        "responses": {str(route.status): _response("The answer.", route.reply)},
    }
    by_status: dict[int, list[str]] = {}
    for error in errors:
        by_status.setdefault(status_of(error), []).append(error.code)
    for status, codes in sorted(by_status.items()):
        operation["responses"][str(status)] = _response(f"Error: {', '.join(sorted(set(codes)))}.", ErrorBody)
    if route.permission is not None:
        operation["security"] = [{"bearer": []}]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    return operation


def _response(description: str, kind: type[msgspec.Struct] | None) -> dict[str, Any]:
    return {"description": description} | ({"content": _content(kind)} if kind is not None else {})


def _content(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
