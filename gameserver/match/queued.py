"""An action on its way: from when it is accepted to when it has its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gameserver.match.actions import ActionSpec
    from gameserver.match.player import Session

Args = list[Any] | dict[str, Any] | tuple[Any, ...]
"""An action's arguments, by place or by name as a client sent them; a tuple: checked, in the method's order."""


class Queued:
    """An action that was accepted and waits for its turn.

    Compiled, the garbage collector does not know of it (see setup.py): nothing that it refers to may lead back to it.
    """

    __slots__ = ("args", "at_us", "crc", "done", "name", "quiet", "seq", "session", "spec")

    def __init__(
        self,
        session: Session,
        seq: int,
        crc: int,
        spec: ActionSpec | None,
        name: str | int,
        args: Args,
        quiet: bool,
        at_us: int,
    ) -> None:
        self.session = session
        self.seq = seq
        self.crc = crc
        self.spec = spec
        """None: the game has no action of this name, which is the outcome when its turn comes."""
        self.name = name
        self.args = args
        self.quiet = quiet
        self.at_us = at_us
        """When it arrived, in match time."""
        self.done = False
