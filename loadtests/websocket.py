"""A WebSocket client of a hundred lines on a plain socket: under locust the socket is gevent's.

A load generator shares the machine with the server it measures, so each frame should cost as little as it can: reads
take whatever has arrived, and frames are cut out of the buffer.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct

SUBPROTOCOL = "gameserver.v1"
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA
READ_BYTES = 65_536
# A mask is demanded, its value is not: with zeros the payload stays what it is, and masking costs nothing.
ZERO_MASK = b"\0\0\0\0"


class ConnectionEnded(Exception):
    """The server closed the connection, with its close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code


class WebSocket:
    """One connection; `receive` returns one binary message at a time and answers pings on the way."""

    def __init__(self, host: str, port: int, path: str, *, timeout_seconds: float = 10.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._at = 0
        try:
            self._handshake(host, port, path)
        except BaseException:
            self.socket.close()
            raise
        self.socket.settimeout(None)

    def _handshake(self, host: str, port: int, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._read()
        head = self._buffer[:end].decode("latin-1")
        self._at = end + 4
        status, *headers = head.split("\r\n")
        values = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
        expected = base64.b64encode(hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()).decode()
        if " 101 " not in f"{status} " or values.get("sec-websocket-accept") != expected:
            raise ConnectionError(f"the upgrade was refused: {status}")

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        """Send one frame."""
        size = len(payload)
        if size < 126:
            header = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65_536:
            header = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
        else:
            header = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
        self.socket.sendall(header + ZERO_MASK + payload)

    def receive(self) -> bytes:
        """The next binary message; raises `ConnectionEnded` when the server closes."""
        while True:
            opcode, payload = self._frame()
            if opcode == BINARY:
                return payload
            if opcode == PING:
                self.send(payload, PONG)
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                raise ConnectionEnded(code, payload[2:].decode("utf-8", "replace"))

    def _frame(self) -> tuple[int, bytes]:
        self._need(2)
        first, second = self._buffer[self._at], self._buffer[self._at + 1]
        if not first & 0x80:
            raise ConnectionError("a fragmented message: this server never sends one")
        header, size = 2, second & 0x7F
        if size >= 126:
            header += 2 if size == 126 else 8
            self._need(header)
            size = int.from_bytes(self._buffer[self._at + 2 : self._at + header], "big")
        self._need(header + size)
        start = self._at + header
        self._at = start + size
        return first & 0x0F, bytes(self._buffer[start : self._at])

    def _need(self, count: int) -> None:
        if len(self._buffer) - self._at >= count:
            return
        del self._buffer[: self._at]
        self._at = 0
        while len(self._buffer) < count:
            self._read()

    def _read(self) -> None:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionEnded(1006, "no close frame")
        self._buffer += data

    def close(self) -> None:
        """Say goodbye and hang up."""
        try:
            self.send((1000).to_bytes(2, "big"), CLOSE)
        except OSError:
            pass  # the other side was quicker
        self.socket.close()
