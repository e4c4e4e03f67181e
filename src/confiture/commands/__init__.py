"""The commands of the command line, one a module: name the databases, hold the run, take the step, move the state."""

from confiture.commands import (
    abort,
    build,
    cleanup,
    cutover,
    endpoints,
    follow,
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
    "migrate",
    "options",
    "plan",
    "requests",
    "rollback",
    "setup",
    "verify",
]
