"""The HTTP API: what each route answers, to whom, and that its description is complete."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gameserver.access import Role
from gameserver.app import Application
from gameserver.config import Settings
from tests.web.conftest import changed
from tests.web.games import GAMES
from tests.web.kit import RawClient, token


@pytest.fixture
async def http(app: Application) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(app.url) as session:
        yield session


def bearer(user: str = "alice", role: Role = Role.PLAYER) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user, role)}"}


async def answer(response: aiohttp.ClientResponse) -> Any:
    assert response.content_type == "application/json"
    body = await response.json()
    if response.status >= 400:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message", "retryable"}
        assert "Traceback" not in body["error"]["message"]
    return body


async def test_create_list_get(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/matches", json={"game": "board", "options": {"map": "x"}}, headers=bearer()) as response:
        assert response.status == 201
        created = await answer(response)
    assert (created["game"], created["players"], created["open"]) == ("board", 0, True)
    async with http.post("/v1/matches", json={"game": "walk"}, headers=bearer()) as response:
        assert response.status == 201
    async with http.get("/v1/matches", params={"game": "board", "not_full": "true"}) as response:
        listed = await answer(response)
    assert [match["match"] for match in listed["matches"]] == [created["match"]]
    async with http.get(f"/v1/matches/{created['match']}") as response:
        assert (await answer(response))["match"] == created["match"]
    async with http.get("/v1/matches", params={"limit": "1"}) as response:
        first = await answer(response)
    async with http.get("/v1/matches", params={"limit": "1", "cursor": first["next_cursor"]}) as response:
        second = await answer(response)
    assert len(first["matches"]) == len(second["matches"]) == 1
    assert first["matches"] != second["matches"]
    assert second["next_cursor"] is None


async def test_join_or_create(http: aiohttp.ClientSession) -> None:
    matches = set()
    for user in ("a", "b", "c"):
        async with http.post("/v1/join", json={"game": "board"}, headers=bearer(user)) as response:
            matches.add((await answer(response))["match"])
    assert len(matches) == 1


async def test_profile(app: Application, http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/me", headers=bearer()) as response:
        assert (await answer(response))["profile"] == {}
    change = {"profile": {"colour": "red", "wins": 3, "$where": {"a.b": [1, None]}}}
    async with http.patch("/v1/me", json=change, headers=bearer()) as response:
        assert response.status == 200
        assert (await answer(response))["profile"] == change["profile"]
    async with http.patch("/v1/me", json={"profile": {"wins": None}}, headers=bearer()) as response:
        assert set((await answer(response))["profile"]) == {"colour", "$where"}
    async with http.get("/v1/me", headers=bearer("bob")) as response:
        assert (await answer(response))["profile"] == {}
    async with http.patch("/v1/me", json=change, headers=bearer("gast", Role.GUEST)) as response:
        assert (response.status, (await answer(response))["error"]["code"]) == (403, "permission_denied")


async def test_guest_tokens(app: Application, http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/auth/guest", json={"name": "Anne"}) as response:
        assert response.status == 200
        guest = await answer(response)
    assert (guest["name"], guest["user"][:6]) == ("Anne", "guest-")
    async with http.get("/v1/me", headers={"Authorization": f"Bearer {guest['token']}"}) as response:
        assert (await answer(response))["user"] == guest["user"]
    async with http.post("/v1/auth/guest") as response:
        assert response.status == 200
    async with http.post("/v1/auth/guest", json={"name": "x\x00y"}) as response:
        assert response.status == 400


async def test_production_gives_no_guest_tokens_and_lists_for_users_only(settings: Settings) -> None:
    secret = "a-secret-of-at-least-thirty-two-bytes"
    production = changed(settings, server={"mode": "production"}, auth={"secret": type(settings.auth.secret)(secret)})
    app = Application(production, GAMES)
    await app.start()
    try:
        async with aiohttp.ClientSession(app.url) as http:
            async with http.post("/v1/auth/guest", json={}) as response:
                assert response.status == 403
            async with http.get("/v1/matches") as response:
                assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
            headers = {"Authorization": f"Bearer {token('gast', Role.GUEST, secret=secret)}"}
            async with http.get("/v1/matches", headers=headers) as response:
                assert response.status == 200
    finally:
        await app.stop()


BAD = [
    ("GET", "/v1/me", {}, 401, "authentication_required"),
    ("GET", "/v1/me", {"headers": {"Authorization": "Bearer x.y.z"}}, 401, "token_invalid"),
    ("GET", "/v1/me", {"headers": {"Authorization": "Basic YTpi"}}, 401, "authentication_required"),
    ("POST", "/v1/matches", {"json": {"game": "board"}}, 401, "authentication_required"),
    ("POST", "/v1/matches", {"json": {"game": "nope"}, "headers": bearer()}, 404, "game_not_found"),
    ("POST", "/v1/matches", {"json": {"game": 5}, "headers": bearer()}, 400, "request_invalid"),
    ("POST", "/v1/matches", {"json": {}, "headers": bearer()}, 400, "request_invalid"),
    ("POST", "/v1/matches", {"json": {"game": "board", "x": 1}, "headers": bearer()}, 400, "request_invalid"),
    ("POST", "/v1/matches", {"data": b"{", "headers": bearer()}, 400, "request_invalid"),
    ("POST", "/v1/matches", {"data": b"\xff\xfe", "headers": bearer()}, 400, "request_invalid"),
    ("POST", "/v1/matches", {"data": b"[" * 50_000, "headers": bearer()}, 400, "request_invalid"),
    ("POST", "/v1/matches", {"data": b"x" * 100_000, "headers": bearer()}, 413, "message_too_large"),
    ("POST", "/v1/join", {"json": {"game": "board", "options": {"fail": 1}}, "headers": bearer()}, 500, "game_error"),
    ("GET", "/v1/matches?limit=0", {}, 400, "request_invalid"),
    ("GET", "/v1/matches?cursor=xx", {}, 400, "request_invalid"),
    ("GET", "/v1/matches?color=red", {}, 400, "request_invalid"),
    ("GET", "/v1/matches/nope", {}, 404, "match_not_found"),
    ("GET", "/v1/nope", {}, 404, "not_found"),
    ("DELETE", "/v1/matches", {}, 405, "request_invalid"),
    ("GET", "/v1/ws", {}, 400, "request_invalid"),
]


@pytest.mark.parametrize(("method", "path", "options", "status", "code"), BAD)
async def test_bad_requests(
    http: aiohttp.ClientSession, method: str, path: str, options: Any, status: int, code: str
) -> None:
    async with http.request(method, path, **options) as response:
        assert (response.status, (await answer(response))["error"]["code"]) == (status, code)


async def test_every_route_is_described(app: Application, http: aiohttp.ClientSession) -> None:
    """The description and what is served come from one table; nothing under /v1 is missing from it."""
    async with http.get("/v1/openapi.json") as response:
        described = await answer(response)
    served = {
        (route.method, route.resource.canonical)
        for route in app.web.app.router.routes()
        if route.resource is not None and route.method != "HEAD" and route.resource.canonical.startswith("/v1/")
    }
    listed = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert served - listed == {("GET", "/v1/ws"), ("GET", "/v1/openapi.json")}
    assert listed <= served
    text = str(described)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in described["components"]["schemas"]
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["summary"].endswith(".")
            assert "500" in operation["responses"]


async def test_health_and_readiness(app: Application, http: aiohttp.ClientSession) -> None:
    async with http.get("/healthz") as response:
        assert (response.status, (await response.json())["status"]) == (200, "ok")
    async with http.get("/readyz") as response:
        body = await response.json()
        assert response.status == 200
        assert body["checks"] == {"redis": "ok", "mongo": "ok", "lease": "ok", "draining": "ok"}
    async with http.get("/") as response:
        assert response.status == 200
        text = await response.text()
        for link in ("/v1/matches", "/metrics", "/healthz", "/readyz", "/v1/openapi.json"):
            assert f'href="{link}"' in text
            async with http.get(link) as linked:
                assert linked.status == 200


async def test_a_match_that_does_not_progress_is_named(app: Application, http: aiohttp.ClientSession) -> None:
    hosted = app.host.create_match("walk")
    assert hosted._alarm.is_set()
    app.host._services.wakes._timer.cancel()  # as if a wake had been lost
    hosted._alarm.at -= 60
    async with http.get("/healthz") as response:
        body = await response.json()
    assert response.status == 503
    assert body["overdue"][0]["match"] == hosted.match_id
    assert body["overdue"][0]["overdue_seconds"] > 50


async def test_draining_is_not_ready(app: Application, http: aiohttp.ClientSession) -> None:
    app.host.draining = True
    async with http.get("/readyz") as response:
        body = await response.json()
    assert (response.status, body["failing"]) == (503, ["draining"])
    async with http.post("/v1/join", json={"game": "board"}, headers=bearer()) as response:
        assert (response.status, (await answer(response))["error"]["code"]) == (503, "server_draining")


async def test_metrics_speak_of_what_happened(app: Application, http: aiohttp.ClientSession) -> None:
    client = await RawClient.open(app, "alice")
    channel = (await client.join("board")).channel
    await client.act(channel, "ring")
    await client.act(channel, "no")
    await client.act(channel, "boom")
    async with http.get("/metrics") as response:
        assert response.status == 200
        text = await response.text()
    for line in (
        'gameserver_matches{game="board"} 1.0',
        'gameserver_players{game="board"} 1.0',
        "gameserver_connections_open 1.0",
        'gameserver_actions_total{game="board",outcome="applied"} 1.0',
        'gameserver_actions_total{game="board",outcome="refused"} 1.0',
        'gameserver_game_errors_total{game="board"} 1.0',
        'gameserver_messages_received_total{type="action"} 3.0',
    ):
        assert line in text
    await client.close()
