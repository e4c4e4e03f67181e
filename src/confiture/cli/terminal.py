"""Where commands speak: progress on stderr (live on a terminal, whole lines elsewhere), results on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

#: Seconds between two progress lines of one table where there is no terminal.
LINE_SECONDS = 5.0


class Reporter(AbstractContextManager["Reporter"]):
    """Progress of a command, for the block it is entered for."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._live = self.console.is_terminal
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """A whole line, once."""
        self.console.print(text, markup=False, soft_wrap=True)

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        """Rows done of an estimated total of one table."""
        if self._live:
            self._bar(name, done, total, phase)
        else:
            self._line(name, done, total, phase)

    def _bar(self, name: str, done: int, total: int, phase: str) -> None:
        if self._bars is None:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=self.console)
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=max(total, 1), completed=done, rate="")
        rate = self._rate(name, done)
        whole = max(total, 1)
        self._bars.update(
            self._tasks[name],
            total=whole,
            completed=done if phase != "copied" else whole,
            rate=f"{rate:,.0f} rows/s" if rate else "",
        )

    def _rate(self, name: str, done: int) -> float:
        now = time.monotonic()
        began, at = self._began.setdefault(name, (now, done))
        return (done - at) / (now - began) if now > began else 0.0

    def _line(self, name: str, done: int, total: int, phase: str) -> None:
        now, rate = time.monotonic(), self._rate(name, done)
        if phase != "copied" and now - self._told.get(name, 0.0) < LINE_SECONDS:
            return
        self._told[name] = now
        percent = min(100.0, 100 * done / total) if total else 100.0
        left = f", ETA {(total - done) / rate:.0f} s" if rate and done < total else ""
        self.say(f"{name}: {phase} {done:,}/{total:,} rows ({percent:.1f} %){left}")


def emit(text: str) -> None:
    """A result, for people."""
    print(text)


def emit_json(value: Mapping[str, Any]) -> None:
    """A result, for programs: one JSON document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    print()
