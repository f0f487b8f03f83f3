"""One URL in, the addresses of a server's doors out."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

SOCKET_PATH = "/v1/ws"
_SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}


class Address(NamedTuple):
    """Where a server's HTTP API and its WebSocket are."""

    http: str
    websocket: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `http://host:port`, `ws://host:port/v1/ws`, `host:port`, with or without a path prefix in front."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(f"{url!r} is not the address of a server: write http://host:port or wss://host")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has a query or fragment: a token is given as Client(url, token=…)")
        secure = "s" if _SCHEMES[parts.scheme] else ""
        prefix = parts.path.rstrip("/").removesuffix(SOCKET_PATH)
        base = f"{parts.netloc}{prefix}"
        return cls(http=f"http{secure}://{base}", websocket=f"ws{secure}://{base}{SOCKET_PATH}")
