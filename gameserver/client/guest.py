"""Tokens of guests: what a server in development mode gives to whoever asks."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp

from gameserver.client.errors import ServerError, error_from
from gameserver.client.link import unreachable

if TYPE_CHECKING:
    from gameserver.errors import GameServerError

log = logging.getLogger("gameserver.client")


async def guest_token(http: aiohttp.ClientSession, address: str, name: str | None, seconds: float) -> str | None:
    """Ask for a guest token; None when this server gives none, and the hello will say what is needed."""
    url = f"{address}/v1/auth/guest"
    try:
        async with asyncio.timeout(seconds):
            body = {"name": name} if name else {}
            async with http.post(url, json=body) as response:
                if response.status >= 500:
                    raise await _http_error(response)
                if response.status >= 400:
                    log.debug("no guest token from %s: %s", url, response.status)
                    return None
                answer = await response.json()
                return str(answer["token"])
    except (aiohttp.ClientError, OSError, TimeoutError) as failure:
        raise unreachable(address, failure) from failure


async def _http_error(response: aiohttp.ClientResponse) -> GameServerError:
    """The error in an HTTP answer."""
    try:
        error = (await response.json())["error"]
        return error_from(error["code"], error["message"], retryable=bool(error.get("retryable")))
    except (aiohttp.ClientError, ValueError, KeyError, TypeError):
        return ServerError("http_error", f"{response.url} answered {response.status}", retryable=response.status >= 500)
