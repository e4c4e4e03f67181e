"""Diagnostics for operators: what was tried again and why, on stderr, apart from a command's result.

This module imports nothing of Confiture.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def configure(*, verbose: bool) -> None:
    """Warnings only, or with ``verbose`` everything."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


configure(verbose=False)
log: Any = structlog.get_logger()
