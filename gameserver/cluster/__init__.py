"""The host that runs the matches of this node: timers, fan-out, the output gate, snapshots."""

from gameserver.cluster.archive import Archive
from gameserver.cluster.arrivals import Arrivals
from gameserver.cluster.drain import Drain, DrainState
from gameserver.cluster.effects import NoEffects, RecordEffects, RoutedEffects
from gameserver.cluster.fanout import Fanout, FanoutLimits
from gameserver.cluster.games import GameRegistry
from gameserver.cluster.gate import Gate, JournalGate, OpenGate
from gameserver.cluster.handover import Handover
from gameserver.cluster.hibernation import Hibernator
from gameserver.cluster.host import Host
from gameserver.cluster.hosted import HostedMatch
from gameserver.cluster.journal import JournalPolicy, JournalWriter
from gameserver.cluster.matches import HostLimits
from gameserver.cluster.member import Flow, Member
from gameserver.cluster.membership import Pace, lease_store
from gameserver.cluster.meters import Meters
from gameserver.cluster.node import ClusterNode, Surroundings
from gameserver.cluster.ports import Clock, EffectSink, LoopClock
from gameserver.cluster.presence import Presence
from gameserver.cluster.receiver import Receiver
from gameserver.cluster.recent import RecentLimits
from gameserver.cluster.services import Keeper, Services
from gameserver.cluster.snapshots import SnapshotPolicy, Snapshotter
from gameserver.cluster.topics import Topics
from gameserver.cluster.watchdog import Stuck, Watchdog
from gameserver.match import Args, Game, User

__all__ = [
    "Archive",
    "Args",
    "Arrivals",
    "Clock",
    "ClusterNode",
    "Drain",
    "DrainState",
    "EffectSink",
    "Fanout",
    "FanoutLimits",
    "Flow",
    "Game",
    "GameRegistry",
    "Gate",
    "Handover",
    "Hibernator",
    "Host",
    "HostLimits",
    "HostedMatch",
    "JournalGate",
    "JournalPolicy",
    "JournalWriter",
    "Keeper",
    "LoopClock",
    "Member",
    "Meters",
    "NoEffects",
    "OpenGate",
    "Pace",
    "Presence",
    "Receiver",
    "RecentLimits",
    "RecordEffects",
    "RoutedEffects",
    "Services",
    "SnapshotPolicy",
    "Snapshotter",
    "Stuck",
    "Surroundings",
    "Topics",
    "User",
    "Watchdog",
    "lease_store",
]
