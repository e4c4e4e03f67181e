"""The commands of the command line, one per module; a module is imported when it is first used.

Each resolves the databases, holds the run, performs its step and changes the state of the run. ``endpoints``,
``databases``, ``holding``, ``options`` and ``driver_errors`` are shared.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from confiture.commands import (
        abort,
        approve,
        build,
        check,
        cleanup,
        cutover,
        databases,
        endpoints,
        follow,
        forecast,
        grants,
        history,
        holding,
        init,
        lint,
        migrate,
        migrations,
        migrations_dry_run,
        migrations_status,
        options,
        plan,
        plan_file,
        reads,
        requests,
        rollback,
        setup,
        sync,
        verify,
    )

__all__ = [
    "abort",
    "approve",
    "build",
    "check",
    "cleanup",
    "cutover",
    "databases",
    "endpoints",
    "follow",
    "forecast",
    "grants",
    "history",
    "holding",
    "init",
    "lint",
    "migrate",
    "migrations",
    "migrations_dry_run",
    "migrations_status",
    "options",
    "plan",
    "plan_file",
    "reads",
    "requests",
    "rollback",
    "setup",
    "sync",
    "verify",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
