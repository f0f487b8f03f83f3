"""Which modules are compiled, if that is asked for: those with a `.pxd` beside them. All else is in pyproject.toml.

The same source runs interpreted and compiled; a `.pxd` only adds the C types (docs/adr/0016). Asked for by
`GAMESERVER_COMPILE=1`, as `make compile` and the Dockerfile do; it takes a C compiler and Python's headers.

`GAMESERVER_PROFILE=record` makes modules that write down, when their process ends, which way they went how often, and
`GAMESERVER_PROFILE=use` lays the code out by that (docs/adr/0022): `make compile-pgo` does both, with gcc.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setuptools import Extension, setup

FLAGS = ["-O2", "-g0", "-w", "-fno-plt"]  # what is called in CPython, all the time, is not looked up by way of a stub
PROFILE = os.environ.get("GAMESERVER_PROFILE", "")  # "record" or "use"
PROFILES = Path("build/profile").absolute()
PROFILE_FLAGS = {
    "": [],
    "record": [f"-fprofile-generate={PROFILES}", "-fprofile-update=prefer-atomic"],
    # What was never trained, or changed since, is compiled as well as can be without.
    "use": [f"-fprofile-use={PROFILES}", "-fprofile-correction", "-Wno-missing-profile", "-Wno-coverage-mismatch"],
}
DIRECTIVES = {
    "language_level": "3",
    "annotation_typing": False,  # an annotated `int` has no bounds: C types are given by the .pxd alone
    "auto_pickle": False,  # nothing is pickled
    "embedsignature": False,
}
CLASS_DIRECTIVES = {"freelist": 0, "no_gc": False}
"""Said in a .pxd they would be lost: the compiler reads those of a class where its body is."""
SPECIAL = {
    # Each input makes one of each: no collector walks over all that wait for a tick, some are kept for the next ones.
    "gameserver.match.queued": {"no_gc": True, "freelist": 256},
    "gameserver.protocol.peek": {"no_gc": True, "freelist": 8},
    # Each flush makes one of each.
    "gameserver.match.output": {"freelist": 8},
    "gameserver.state.changes": {"freelist": 8},
    "gameserver.state.patch": {"freelist": 8},
}


def extensions() -> list[Any]:
    """The modules to compile."""
    if os.environ.get("GAMESERVER_COMPILE", "") in ("", "0"):
        return []
    sources = sorted(path.with_suffix(".py") for path in Path("gameserver").rglob("*.pxd") if path.stem != "__init__")
    named = {".".join(source.with_suffix("").parts): str(source) for source in sources}
    profile = PROFILE_FLAGS[PROFILE]
    modules = {
        name: Extension(name, [source], extra_compile_args=FLAGS + profile, extra_link_args=profile)
        for name, source in named.items()
    }
    made = translated([module for name, module in modules.items() if name not in SPECIAL], DIRECTIVES)
    for name, directives in SPECIAL.items():
        made += translated([modules[name]], DIRECTIVES | directives)
    return made


def translated(modules: list[Any], directives: dict[str, Any]) -> list[Any]:
    """The modules as C."""
    from Cython.Build import cythonize
    from Cython.Compiler.Options import get_directive_defaults

    for directive, value in CLASS_DIRECTIVES.items():  # else they are taken only where a class has its body
        get_directive_defaults().setdefault(directive, value)
    made: list[Any] = cythonize(
        modules, build_dir="build/cython", compiler_directives=directives, nthreads=os.cpu_count() or 1, quiet=True
    )
    return made


if __name__ == "__main__":
    # With a profile or for one, what is there already of the same sources is not what was asked for.
    setup(ext_modules=extensions(), options={"build_ext": {"force": bool(PROFILE), "parallel": os.cpu_count()}})
