"""Which modules are compiled, if that is asked for: those with a `.pxd` beside them. All else is in pyproject.toml.

The same source runs interpreted and compiled; a `.pxd` only adds the C types (docs/adr/0016). Asked for by
`GAMESERVER_COMPILE=1`, as `make compile` and the Dockerfile do; it takes a C compiler and Python's headers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setuptools import Extension, setup

FLAGS = ["-O2", "-g0", "-w", "-fno-plt"]  # what is called in CPython, all the time, is not looked up by way of a stub
DIRECTIVES = {
    "language_level": "3",
    "annotation_typing": False,  # an annotated `int` has no bounds: C types are given by the .pxd alone
    "auto_pickle": False,  # nothing is pickled
    "embedsignature": False,
}


def extensions() -> list[Any]:
    """The modules to compile."""
    if os.environ.get("GAMESERVER_COMPILE", "") in ("", "0"):
        return []
    from Cython.Build import cythonize

    sources = sorted(path.with_suffix(".py") for path in Path("gameserver").rglob("*.pxd") if path.stem != "__init__")
    modules = [
        Extension(".".join(source.with_suffix("").parts), [str(source)], extra_compile_args=FLAGS)
        for source in sources
    ]
    made: list[Any] = cythonize(
        modules, build_dir="build/cython", compiler_directives=DIRECTIVES, nthreads=os.cpu_count() or 1, quiet=True
    )
    return made


if __name__ == "__main__":
    setup(ext_modules=extensions())
