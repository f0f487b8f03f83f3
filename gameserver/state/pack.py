# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Msgpack written piece by piece into memory that is kept: no list or number is made on the way to the bytes.

That is for compiled code. Interpreted it would take twice as long as lists and one call of the encoder: see `packer`.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_FIRST: Final = 1024
_KEPT: Final = 65_536
"""Bytes of memory to begin with, and beyond which it is given back."""


class Packer:
    """Arrays one after another, each `begin`, its elements, `end`; until `clear`. Used by one thread."""

    __slots__ = ("_begun", "_capacity", "_double", "_octets", "_out", "_view", "arrays", "count", "size")

    def __init__(self) -> None:
        number = bytearray(8)
        octets = memoryview(number)
        # One double and its bytes, the most significant first, in the same memory.
        self._double = octets.cast("d")
        self._octets: Any = octets[::-1] if sys.byteorder == "little" else octets
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
        self._out, self._view = made, memoryview(made)

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
            elif value <= 0xFFFFFFFF:
                self._put_bits(0xCE, value, 32)
            else:
                self._put_bits(0xCF, value, 64)
        elif value >= -0x80:
            self._put_bits(0xD0, value, 8)
        elif value >= -0x8000:
            self._put_bits(0xD1, value, 16)
        elif value >= -0x80000000:
            self._put_bits(0xD2, value, 32)
        else:
            self._put_bits(0xD3, value, 64)

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
        self._double[0] = value
        self._out[at] = 0xCB
        for place in range(8):
            self._out[at + 1 + place] = self._octets[place]
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
        self._view[self.size : self.size + size] = encoded
        self.size += size

    def taken(self) -> bytes:
        """All there is."""
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

    def taken(self) -> bytes:
        """All there is."""
        encoded: bytes = _encode(self._gathered)
        return encoded[len(array_head(len(self._gathered))) :]


def packer() -> Packer:
    """What is quicker here."""
    made: Any = Gatherer() if __file__.endswith(".py") else Packer()
    found: Packer = made
    return found


def array_head(count: int) -> bytes:
    """What an array of so many elements begins with."""
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 65_536 else b"\xdd" + count.to_bytes(4, "big")
