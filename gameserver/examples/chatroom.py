"""Chatroom: no ticks, no entities, just plain dicts and lists.

What to learn here: a game without a schema (assign plain data anywhere and it is tracked), a list that stays bounded,
events that may be dropped for a slow consumer (LOW), an event to one player, and a role that may do more than others.
"""

from __future__ import annotations

from typing import Any

from gameserver import ActionRefused, Game, List, Map, Player, Priority, action

HISTORY_MAX = 100
TEXT_LENGTH_MAX = 500
REACTIONS = ("+1", "heart", "laugh")


class Chatroom(Game):
    """Talk, react, whisper; the last hundred lines are there for who comes later."""

    players_max = 200
    empty_seconds = None  # the room stays, with its history, when the last one leaves

    topic: str = ""
    members: Map[str, Any]  # player id -> {"name": …, "away": …}
    history: List[Any]  # [{"id": …, "from": …, "name": …, "text": …, "at": …, "reactions": {…}}, …]
    next_id: int = 1

    def on_create(self, options: dict[str, Any]) -> None:
        self.topic = str(options.get("topic", ""))[:TEXT_LENGTH_MAX]

    def on_join(self, player: Player) -> None:
        self.members[player.id] = {"name": player.name, "away": False}

    def on_leave(self, player: Player, reason: str) -> None:
        del self.members[player.id]

    def on_disconnect(self, player: Player) -> None:
        self.members[player.id]["away"] = True

    def on_reconnect(self, player: Player) -> None:
        self.members[player.id]["away"] = False

    @action(rate="5/s")
    def say(self, player: Player, text: str) -> int:
        """Say something to everyone; the result is the message's id."""
        message_id = self.next_id
        self.next_id += 1
        self.history.append(
            {
                "id": message_id,
                "from": player.id,
                "name": player.name,
                "text": checked(text),
                "at": self.wall_time,
                "reactions": {},
            }
        )
        del self.history[:-HISTORY_MAX]
        return message_id

    @action(rate="5/s")
    def react(self, player: Player, message_id: int, reaction: str) -> int:
        """React to a message, once per player and reaction; the result is how many did."""
        message = next((message for message in self.history if message["id"] == message_id), None)
        if message is None or reaction not in REACTIONS:
            raise ActionRefused("there is no such message or reaction")
        players = message["reactions"].setdefault(reaction, [])
        if player.id not in players:
            players.append(player.id)  # a change deep inside plain data travels as just that change
        return len(players)

    @action(priority=Priority.LOW, rate="2/s")
    def typing(self, player: Player) -> None:
        """Tell the others that you are typing: not worth keeping, so an event and not state."""
        self.emit("typing", {"player": player.id}, priority=Priority.LOW)

    @action(priority=Priority.HIGH, rate="5/s")
    def whisper(self, player: Player, to: str, text: str) -> None:
        """Say something to one player only; nothing of it is kept."""
        if to not in self.players:
            raise ActionRefused("there is nobody of that name here")
        message = {"from": player.id, "name": player.name, "text": checked(text)}
        self.emit("whisper", message, to=self.players[to], priority=Priority.HIGH)

    @action
    def set_topic(self, player: Player, topic: str) -> None:
        """Change the topic: moderators and admins only."""
        if player.role not in ("moderator", "admin"):
            raise ActionRefused("only a moderator may set the topic")
        self.topic = checked(topic)


def checked(text: str) -> str:
    """Refuse what is empty or too long to be a line of chat."""
    text = text.strip()
    if not 0 < len(text) <= TEXT_LENGTH_MAX:
        raise ActionRefused(f"a text has 1 to {TEXT_LENGTH_MAX} characters")
    return text
