"""The modules that a command imports, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

_PROGRAM = """
import runpy, sys
try:
    runpy.run_module("confiture", run_name="__main__")
except SystemExit as end:
    print(end.code, file=sys.stderr)
print(*sys.modules, file=sys.stderr)
"""


def modules_of(*words: str, code: str | None = None, **environment: str) -> set[str]:
    """The modules that the command line has imported when it ends.

    :param code: the exit code that is expected; None for any.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    *_, ended, modules = done.stderr.splitlines()
    assert code in (None, ended), done.stdout + done.stderr
    return set(modules.split())


def of_confiture(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "confiture"}
