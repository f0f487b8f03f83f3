"""Games that an author would learn from: `gameserver run` serves them when no other is named."""

from gameserver.examples.arena import Arena
from gameserver.examples.battleship import Battleship
from gameserver.examples.chatroom import Chatroom

GAMES = [Arena, Battleship, Chatroom]

__all__ = ["GAMES", "Arena", "Battleship", "Chatroom"]
