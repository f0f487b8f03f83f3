"""Bots for the example games, built on the client SDK: `python -m gameserver.examples.bots arena --players 20`."""

from gameserver.examples.bots.players import BOTS, Bot
from gameserver.examples.bots.report import Report

__all__ = ["BOTS", "Bot", "Report"]
