# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Msgpack written piece by piece into memory that is kept: no list or number is made on the way to the bytes.

That is for compiled code. Interpreted it would take twice as long as lists and one call of the encoder: see `packer`.
"""

from __future__ import annotations

from struct import pack
from typing import Any, Final

import msgspec

COMPILED: Final = not __file__.endswith(".py")
_encode = msgspec.msgpack.Encoder().encode
_SMALL_HEADS: Final = [bytes((0x90 | count,)) for count in range(16)]
_UINT32_MAX: Final = 0xFFFFFFFF
_INT32_MIN: Final = -0x80000000
_INT64_MAX: Final = 0x7FFFFFFFFFFFFFFF
NEXT: Final = b"\x92\xa4next"
"""An array of two that begins with this word."""
_FIRST: Final = 1024
_KEPT: Final = 65_536
"""Bytes of memory to begin with, and beyond which it is given back."""


class Packer:
    """Arrays one after another, each `begin`, its elements, `end`; until `clear`. Used by one thread."""

    __slots__ = ("_begun", "_capacity", "_out", "_view", "arrays", "count", "size")

    def __init__(self) -> None:
        self._capacity = self._begun = 0
        self.arrays = 0
        """How many were ended with something in them."""
        self.count = 0
        """Elements of the array that was begun."""
        self.size = 0
        """In bytes."""
        self._view = memoryview(b"")
        self._grow(_FIRST)

    def _grow(self, capacity: int) -> None:
        made = bytearray(capacity)
        if self.size:
            made[: self.size] = self._view[: self.size]
        self._capacity = capacity
        self._view = memoryview(made)
        self._out = made  # compiled, where its bytes are

    def _room(self, size: int) -> None:
        """Have memory for so many more bytes."""
        if self.size + size > self._capacity:
            self._grow(2 * (self.size + size))

    def clear(self) -> None:
        """Begin anew."""
        self.size = self.arrays = self.count = 0
        if self._capacity > _KEPT:
            self._grow(_FIRST)

    def begin(self, first: int) -> None:
        """An array whose first element is an integer; it is nothing as long as that is all."""
        if self.size >= self._capacity:
            self._room(1)
        self._begun = self.size
        self.size += 1
        self.count = 0
        self.put_int(first)

    def end(self) -> bool:
        """The array is complete: whether it holds more than its first element. If not, it is taken back."""
        begun, count = self._begun, self.count
        if count == 1:
            self.size = begun
            return False
        self.arrays += 1
        if count < 16:
            self._out[begun] = 0x90 | count
            return True
        self._room(2)
        elements = bytes(self._view[begun + 1 : self.size])
        self.size = begun
        self.put_raw(array_head(count))
        self.put_raw(elements)
        return True

    def put_int(self, value: int) -> None:
        """An integer of 64 bits with a sign, as short as can be."""
        at = self.size
        if at + 9 > self._capacity:
            self._room(9)
        self.count += 1
        if -32 <= value <= 127:
            self._out[at] = value & 0xFF
            self.size = at + 1
        elif value >= 0:
            if value <= 0xFF:
                self._put_bits(0xCC, value, 8)
            elif value <= 0xFFFF:
                self._put_bits(0xCD, value, 16)
            elif value <= _UINT32_MAX:
                self._put_bits(0xCE, value, 32)
            else:
                self._put_bits(0xCF, value, 64)
        elif value >= -0x80:
            self._put_bits(0xD0, value, 8)
        elif value >= -0x8000:
            self._put_bits(0xD1, value, 16)
        elif value >= _INT32_MIN:
            self._put_bits(0xD2, value, 32)
        else:
            self._put_bits(0xD3, value, 64)

    def put_uint(self, value: int) -> None:
        """An integer of 64 bits without a sign."""
        if value <= _INT64_MAX:
            self.put_int(value)
        else:
            self._room(9)
            self.count += 1
            self._put_bits(0xCF, value, 64)

    def _put_bits(self, head: int, value: int, bits: int) -> None:
        at = self.size
        self._out[at] = head
        while bits:
            bits -= 8
            at += 1
            self._out[at] = value >> bits & 0xFF
        self.size = at + 1

    def put_float(self, value: float) -> None:
        """A float of 64 bits."""
        at = self.size
        if at + 9 > self._capacity:
            self._room(9)
        self.count += 1
        self._out[at] = 0xCB
        if COMPILED:
            PyFloat_Pack8(value, self._out + at + 1, 0)  # type: ignore[name-defined,operator] # noqa: F821 - in the .pxd
        else:
            self._view[at + 1 : at + 9] = pack(">d", value)
        self.size = at + 9

    def put(self, value: Any) -> None:
        """Any plain value."""
        kind = type(value)
        if kind is float:
            self.put_float(value)
        elif kind is int:
            self.put_int(value)
        else:
            self.count += 1
            self.put_raw(_encode(value))

    def put_raw(self, encoded: bytes) -> None:
        """Bytes as they are, which are no element."""
        size = len(encoded)
        self._room(size)
        if COMPILED:
            memcpy(self._out + self.size, encoded, size)  # type: ignore[name-defined,operator] # noqa: F821 - see above
        else:
            self._view[self.size : self.size + size] = encoded
        self.size += size

    def put_next(self, node_id: int) -> None:
        """The array `["next", id]`."""
        self.put_raw(NEXT)
        self.put_int(node_id)
        self.arrays += 1

    def taken(self) -> bytes:
        """All there is."""
        if COMPILED:
            return self._out[: self.size]  # type: ignore[return-value] # of a pointer, that is `bytes`
        return bytes(self._view[: self.size])


class Gatherer:
    """The same of lists, for where this is interpreted."""

    __slots__ = ("_array", "_gathered", "put", "put_int")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._gathered: list[list[Any]] = []

    @property
    def arrays(self) -> int:
        """How many were ended with something in them."""
        return len(self._gathered)

    def begin(self, first: int) -> None:
        """See `Packer.begin`."""
        self._array: list[Any] = [first]
        self.put = self.put_int = self._array.append

    def end(self) -> bool:
        """See `Packer.end`."""
        if len(self._array) == 1:
            return False
        self._gathered.append(self._array)
        return True

    def put_next(self, node_id: int) -> None:
        """See `Packer.put_next`."""
        self._gathered.append(["next", node_id])

    def taken(self) -> bytes:
        """All there is."""
        encoded: bytes = _encode(self._gathered)
        return encoded[len(array_head(len(self._gathered))) :]


def packer() -> Packer:
    """What is quicker here."""
    made: Any = Packer() if COMPILED else Gatherer()
    found: Packer = made
    return found


def array_head(count: int) -> bytes:
    """What an array of so many elements begins with."""
    if count < 16:
        return _SMALL_HEADS[count]
    return b"\xdc" + count.to_bytes(2, "big") if count < 65_536 else b"\xdd" + count.to_bytes(4, "big")
