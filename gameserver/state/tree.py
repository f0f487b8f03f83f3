"""`Tree`: the state of one match. Transactions, who holds whom, who may see what.

Values change at once; who holds whom is settled once per transaction, from its log entries: within a transaction a node
may be in two places (a swap) or in none (a move), at its end in one at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gameserver.errors import StateError
from gameserver.state import dump as dumping
from gameserver.state import links, literal, patch
from gameserver.state.entity import Entity, Field, Visibility, begin_period, entity_classes, remember, unflush
from gameserver.state.groups import Group
from gameserver.state.node import EVERYONE, LogEntry, Node, Scope, Where, put

Mark = int
SPECTATORS: Final = "*spectators"
"""The one viewer that all spectators share: what is sent to spectators is encoded and framed once, however many."""


class _Callback:
    """Lets parts outside the tree (timers, an outbox) take part in its transactions."""

    @staticmethod
    def _undo(entry: LogEntry) -> None:
        entry[1]()


_CALLBACK: Final = _Callback()


class Tree:
    """The tracked state of one match: the root entity and all below it, its viewers and their groups."""

    __slots__ = (
        "_groups", "_marked_next_id", "_settled", "by_audience", "classes", "flushed_id", "gone", "indexed", "log",
        "moved", "new_classes", "new_entities", "next_id", "relink", "rescoped", "root", "viewers",
    )  # fmt: skip

    def __init__(self, root: Entity) -> None:
        """Takes the root in. Raises `StateError` if its initial values are not valid state."""
        self._set_up(root)
        put(root, "_id", self._take_id())
        links.enter(self, root)
        links.settle_new(self, [(child, root, where) for child, where in root._children()])
        self.note_flushed()

    def _set_up(self, root: Entity) -> None:
        self.root = root
        self.log: list[LogEntry] = []
        self.relink = False  # some write since the last settling involved a node
        self.viewers = Group("*viewers", self.log, (SPECTATORS,))
        self._groups = {"spectators": Group("spectators", self.log, (SPECTATORS,))}
        self.classes: list[type[Entity]] = entity_classes(type(root))
        self.new_classes: list[type[Entity]] = []
        self.new_entities: list[Entity] = []  # taken in since the last flush
        self.next_id = 1
        self.flushed_id = 0  # ids up to this one were known at the last flush
        self.rescoped: dict[int, tuple[Node, Scope | None]] = {}  # nodes with the scope they had at the last flush
        self.moved: dict[int, Node] = {}  # nodes taken from a place since then
        self.gone: dict[int, Scope | None] = {}  # nodes that left the tree since, likewise
        self.by_audience: dict[str, dict[int, Node]] = {}  # nodes with an audience of their own
        self.indexed: dict[int, str] = {}  # and where each is to be found there
        self._settled = 0
        self._marked_next_id = 1

    # --- transactions -------------------------------------------------------------------------------------------------
    def mark(self) -> Mark:
        """Starts a transaction. They do not nest."""
        if self.relink:
            self._settle()
        self._settled = len(self.log)
        self._marked_next_id = self.next_id
        begin_period()
        return self._settled

    def check(self, mark: Mark) -> None:
        """Ends the transaction begun at `mark`. Raises `StateError` if the state is not valid: then roll it back."""
        if self.relink:
            links.settle(self, mark)
            self.relink = False
        self._settled = len(self.log)

    def rollback(self, mark: Mark) -> None:
        """Undoes everything since `mark` by inverse operations: a cost of what was done, not of what there is."""
        if mark < self._settled:
            raise StateError("a transaction that was checked cannot be rolled back")
        log = self.log
        for entry in reversed(log[mark:]):
            entry[0]._undo(entry)
        del log[mark:]
        begin_period()
        self.relink = False
        self.next_id = self._marked_next_id

    def record(self, undo: Callable[[], None]) -> None:
        """Has `undo` called if this transaction is rolled back, in its place among the other inverse operations."""
        self.log.append((_CALLBACK, undo))

    def _settle(self) -> None:
        links.settle(self, self._settled)
        self._settled = len(self.log)
        self.relink = False

    def _take_id(self) -> int:
        taken = self.next_id
        self.next_id += 1
        return taken

    # --- viewers and groups -------------------------------------------------------------------------------------------
    def group(self, name: str) -> Group:
        """The group of that name, empty if there was none."""
        found = self._groups.get(name)
        if found is None:
            if not name or name.startswith(("player:", "*")) or name == "everyone":
                raise StateError(f"a group cannot be named {name!r}: 'everyone', 'player:…' and '*…' are taken")
            found = self._groups[name] = Group(name, self.log)
        return found

    @property
    def groups(self) -> Mapping[str, Group]:
        """All groups by name."""
        return self._groups

    def add_viewer(self, viewer: str) -> None:
        """Lets a player see what is for everyone. They start from a full state; patches are for those already here."""
        self.viewers.add(viewer)

    def remove_viewer(self, viewer: str) -> None:
        """Takes a player out of the viewers and of all groups."""
        self.viewers.discard(viewer)
        for group in self._groups.values():
            group.discard(viewer)

    def receivers(self, audience: str) -> frozenset[str] | None:
        """Who an audience is right now: None for "everyone", else viewer ids ("player:<id>" or a group's name)."""
        if audience == "everyone":
            return None
        if audience.startswith("player:"):
            return frozenset((audience[7:],))
        group = self._groups.get(audience)
        return group.members if group is not None else frozenset()

    def sees(self, viewer: str, scope: Scope | None) -> bool:
        """May this viewer see what has this scope?"""
        if scope is None:
            return False
        return all(
            name[7:] == viewer if name.startswith("player:") else viewer in self._groups.get(name, ()) for name in scope
        )

    # --- scopes -------------------------------------------------------------------------------------------------------
    def slot_scope(self, parent: Node, where: Where) -> Scope | None:
        """Who may see what a node holds there: an owner_only field is for its owner, a server_only one for nobody."""
        scope = parent._scope
        if isinstance(where, Field) and where.visibility is not Visibility.PUBLIC and isinstance(parent, Entity):
            if where.visibility is Visibility.SERVER or parent._owner is None or scope is None:
                return None
            return scope | {f"player:{parent._owner}"}
        return scope

    def scope_now(self, node: Node) -> Scope | None:
        """Who may see a node: all that its ancestors and its own audience demand."""
        scope = EVERYONE if node._parent is None else self.slot_scope(node._parent, node._where)
        if scope is None or node._audience is None:
            return scope
        return scope | {node._audience}

    # --- out ----------------------------------------------------------------------------------------------------------
    @property
    def dirty(self) -> bool:
        """Did anything happen since the last flush?"""
        return bool(self.log)

    def flush(self, journal: bool = False) -> patch.Patch:
        """What changed since the last flush, encoded once per audience. Never call it inside a transaction.

        With `journal` the patch also has the exact change, for `load` to repeat.
        """
        if not self.log:
            return patch.EMPTY_PATCH
        if self.relink:
            self._settle()
        try:
            made = patch.encode_patch(self, journal)
        except BaseException:
            self._unflush()
            raise
        self.note_flushed()
        return made

    def note_flushed(self) -> None:
        """What there is now is what the next flush starts from."""
        self.log.clear()
        begin_period()
        self._settled = 0
        self.flushed_id = self.next_id - 1
        if self.new_entities:
            for entity in self.new_entities:
                remember(entity)
            self.new_entities.clear()
            self.new_classes.clear()
        if self.rescoped or self.gone or self.moved:
            self.rescoped.clear()
            self.gone.clear()
            self.moved.clear()

    def _unflush(self) -> None:
        """Nothing of a flush that failed went out: the next one has it all."""
        for entry in reversed(self.log):
            entity = entry[0]
            if isinstance(entity, Entity):
                unflush(entity, entry[1], entry[2])

    def full_state(self, viewer: str) -> bytes:
        """The root's literal as `viewer` sees it, encoded. Raises `StateError` while changes wait to be flushed."""
        if self.log:
            raise StateError("flush before asking for a full state: it belongs to a version")
        return literal.ENCODER.encode(literal.view_literal(self, self.root, viewer))

    def view(self, viewer: str) -> Any:
        """What `viewer` may see, as plain dicts, lists and scalars: what a mirror's `to_plain` must equal."""
        return literal.plain_view(self, self.root, viewer)

    def class_number(self, cls: type[Entity]) -> int:
        """The number that stands for an entity class on the wire."""
        return self.classes.index(cls) + literal.CLASS_NUMBER_MIN

    def schema(self) -> list[Any]:
        """The classes and fields that literals and patches refer to by number; server_only fields are not in it."""
        return [literal.class_definition(cls) for cls in self.classes]

    def dump(self) -> dict[str, Any]:
        """Everything, exact, as plain data that msgpack can hold. Raises `StateError` while changes wait."""
        if self.log:
            raise StateError("flush before dumping: a dump belongs to a version")
        return dumping.dump(self)

    @classmethod
    def load(cls, dumped: dict[str, Any], root: Entity, journal: Iterable[list[Any]] = ()) -> Tree:
        """The tree that was dumped, over a fresh `root` of the (possibly changed) class, and what was journaled since.

        Goes by class and field names: fields that are gone are dropped, new ones have their defaults.
        Raises `StateError` for values that no longer fit their field, naming it.
        """
        tree = cls.__new__(cls)
        tree._set_up(root)
        dumping.load(tree, dumped, journal)
        return tree
