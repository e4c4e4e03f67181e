"""The commands of the command line, one per module.

Each resolves the databases, holds the run, performs its step and changes the state of the run. ``endpoints``,
``holding``, ``options`` and ``driver_errors`` are shared.
"""

from confiture.commands import (
    abort,
    build,
    cleanup,
    cutover,
    endpoints,
    follow,
    grants,
    init,
    migrate,
    options,
    plan,
    requests,
    rollback,
    setup,
    verify,
)

__all__ = [
    "abort",
    "build",
    "cleanup",
    "cutover",
    "endpoints",
    "follow",
    "grants",
    "init",
    "migrate",
    "options",
    "plan",
    "requests",
    "rollback",
    "setup",
    "verify",
]
