"""`python -m tests.mutations`: take one safeguard out at a time, and see that the tests named for it fail.

Each mutation is one place of a scratch copy, never of the work tree. A place that is not found means that the code has
changed: mend the mutation. With words as arguments only the mutations whose names have one of them are tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("gameserver", "tests", "benchmarks", "pyproject.toml", "README.md", "config.toml", "docs")
SECONDS_MAX = 600


def main(words: list[str]) -> int:
    """How many mutations no test has noticed, or could not be tried."""
    chosen = [one for one in MUTATIONS if not words or any(word in one.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Path(folder)
        for name in COPIED:
            _copy(ROOT / name, copy / name)
        unbroken = sorted({test for one in chosen for test in one.tests})
        if failed := _first_failure(copy, unbroken, stop=False):
            print(f"without any mutation these fail: {failed}")  # noqa: T201
            return 1
        survivors = sum(not _is_noticed(copy, one) for one in chosen)
    print(f"{len(chosen)} mutations, {survivors} not noticed")  # noqa: T201
    return survivors


def _is_noticed(copy: Path, mutation: Mutation) -> bool:
    place = copy / "gameserver" / mutation.file
    original = place.read_text()
    if original.count(mutation.old) != 1:
        print(f"| {mutation.name} | NOT FOUND in {mutation.file} |", flush=True)  # noqa: T201
        return False
    place.write_text(original.replace(mutation.old, mutation.new))
    try:
        noticed = _first_failure(copy, mutation.tests, stop=True)
    finally:
        place.write_text(original)
    print(f"| {mutation.name} | {f'`{noticed}`' if noticed else 'SURVIVED'} |", flush=True)  # noqa: T201
    return bool(noticed)


def _first_failure(copy: Path, tests: list[str] | tuple[str, ...], *, stop: bool) -> str:
    """The first test that fails in the copy; empty: none does."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE", *tests]
    if stop:
        command.append("-x")
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return "it never ends"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    failed = [line.partition(" ")[2].partition(" - ")[0] for line in lines]
    if not failed:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return failed[0]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.so", "results", "node_modules"))
    else:
        shutil.copy(source, target)


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
