"""`python -m tests.chaos.mutants`: take one promise out of the server at a time, and see that the chaos goes red.

Each mutant is a copy of the package with one place changed. A test that cannot fail proves nothing; this is how it is
known that these can. A place that is not found means that the code has changed: mend the mutant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gameserver

PACKAGE = Path(gameserver.__file__).parent
SECONDS_MAX = 600
BROKEN = ("  lost: ", "  duplicated: ", "  broken: ")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One place in the code, what stands there instead, and the faults that are to show it."""

    promise: str
    file: str
    old: str
    new: str
    kinds: tuple[str, ...]
    rounds: int = 6


MUTANTS = (
    Mutant(
        "answers wait for the journal",
        "cluster/gate.py",
        "if not (self._strict or is_gated(output)) or",
        "if True or",
        ("kill owner",),
    ),
    Mutant(
        "an action that was seen is not done again",
        "match/inbox.py",
        "            self._repeat(session, seq, crc, quiet)\n            return\n",
        "            assert seq <= session.received\n            session.received = seq - 1\n",
        ("kill owner",),
    ),
    Mutant(
        "what was applied is journaled with its number",
        "match/journal.py",
        "    session.received = max(session.received, seq)\n",
        "    session.applied, session.received = seq - 1, seq - 1\n",
        ("kill owner",),
    ),
    Mutant(
        "an edge keeps actions until they have an outcome",
        "cluster/seats.py",
        "        self.kept[action.seq] = action\n",
        "        pass\n",
        ("kill owner",),
    ),
    Mutant(
        "an edge keeps its sockets when an owner is gone",
        "cluster/edge.py",
        "        remote.fall_out()\n        for seat in remote.seats.values():\n            seat.attached = False\n"
        "            seat.asked_at = None\n",
        "        remote.end(MatchMoved(), reconnect=True)\n        return\n",
        ("kill owner", "drain by signal"),
    ),
    Mutant(
        "a store that lost a match is given it back",
        "cluster/reassert.py",
        "        await self._put_back(match_id, token)\n",
        "        self._fenced(match_id)\n",
        ("store comes back empty", "store comes back older"),
    ),
    Mutant(
        "what waits while a match is put back belongs to the new epoch",
        "cluster/hosted_output.py",
        "            output.epoch = epoch\n",
        "            pass\n",
        ("store comes back empty", "store comes back older"),
        12,
    ),
    Mutant(
        "numbers of an edge's link do not begin again",
        "cluster/owner.py",
        "        self.owner.serials_until = max(self.owner.serials_until, self.serial, link.serial)\n",
        "",
        ("pause node, 10 s",),
    ),
    Mutant(
        "actions that are quicker than their join's return wait for it",
        "web/connection.py",
        "if self._joining and len(self._early)",
        "if False and len(self._early)",
        ("kill owner", "drain by signal"),
    ),
    Mutant(
        "effects that are not known done go out again",
        "match/journal.py",
        "        match.unsettled[version, index] =",
        "        _ =",
        ("kill owner",),
    ),
)


def run(mutant: Mutant, arguments: list[str]) -> str:
    """What became of it."""
    with tempfile.TemporaryDirectory(prefix="gameserver-mutant-") as name:
        folder = Path(name)
        shutil.copytree(PACKAGE, folder / "gameserver", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        place = folder / "gameserver" / mutant.file
        text = place.read_text()
        if text.count(mutant.old) != 1:
            return f"does not apply: {mutant.file} has {text.count(mutant.old)} such places"
        place.write_text(text.replace(mutant.old, mutant.new))
        kinds = [word for kind in mutant.kinds for word in ("--kind", kind)]
        command = [sys.executable, "-m", "tests.chaos", "--rounds", str(mutant.rounds), *kinds, *arguments]
        environment = {"SETTLE_SECONDS": "15", **os.environ, "PYTHONPATH": name}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX)
    told = [line.strip() for line in ended.stdout.splitlines() if line.startswith(BROKEN)]
    if ended.returncode == 1 and "acknowledged actions" in ended.stdout:
        return f"caught: {told[0][:150] if told else 'see the table'}"
    return "NOT CAUGHT" if ended.returncode == 0 else f"failed:\n{ended.stdout}\n{ended.stderr}"


def main() -> int:
    """0: each of them was caught."""
    caught = 0
    for mutant in MUTANTS:
        outcome = run(mutant, sys.argv[1:])
        caught += outcome.startswith("caught")
        print(f"without {mutant.promise!r}: {outcome}", flush=True)
    return 0 if caught == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
