"""The progress of commands on stderr: live on a terminal, whole lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from confiture.cli.streams import to_nowhere
from confiture.types import NAMES_SHOWN, Activity, counted, duration, in_plain_words, some, visible

#: Seconds between two progress lines of one table where there is no terminal, and between lines of tables that ended.
LINE_SECONDS = 5.0


class _Console(Console):
    """A console that becomes quiet when its reader closes the pipe, so that a closed pipe does not stop a migration."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        to_nowhere(sys.stderr.fileno())


class Reporter(AbstractContextManager["Reporter"]):
    """Progress of a command, for the duration of a ``with`` block."""

    def __init__(self) -> None:
        self.console = _Console(stderr=True, highlight=False)
        self._live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._printed: dict[str, float] = {}
        self._ended: list[tuple[str, int, Activity]] = []
        self._printed_ended = 0.0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._print_ended()
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """Print one line; with the time where there is no terminal, as in a log."""
        self._print_ended()
        self._say(text)

    def _say(self, text: str) -> None:
        at = "" if self.console.is_terminal else f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} "
        self.console.print(f"{at}{visible(in_plain_words(text))}", markup=False, soft_wrap=True)

    def table(self, name: str, done: int, total: int, activity: Activity) -> None:
        """Report the rows of one table that are copied or compared.

        :param total: estimated rows until the table is copied.
        """
        if self._live:
            self._bar(name, done, total, activity)
        elif done < total:
            self._line(name, done, total, activity)
        if activity.ended:
            self._ended.append((name, done, activity))
        if self._ended and time.monotonic() - self._printed_ended > LINE_SECONDS:
            self._print_ended()

    def _print_ended(self) -> None:
        """Print a line for each table that has ended since the last time; of many tables, one line for all."""
        ended, self._ended = self._ended, []
        self._printed_ended = time.monotonic()
        if len(ended) <= NAMES_SHOWN:
            for name, rows, activity in ended:
                self._say(f"{name}: {activity} {counted(rows, 'row')}")
            return
        for activity in dict.fromkeys(what for _, _, what in ended):
            those = [(name, rows) for name, rows, what in ended if what is activity]
            total = counted(sum(rows for _, rows in those), "row")
            names = some([name for name, _ in those], NAMES_SHOWN)
            self._say(f"{counted(len(those), 'table')}: {activity} {total} ({names})")

    def _bar(self, name: str, done: int, total: int, activity: Activity) -> None:
        if self._bars is None:
            columns = (
                SpinnerColumn("line" if self.console.options.ascii_only else "dots"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=self.console)
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(visible(name), total=max(total, 1), completed=done, rate="")
        if activity.ended:
            # A line replaces the bar: only tables that are being copied or compared have a bar.
            self._bars.remove_task(self._tasks.pop(name))
            return
        rate = self._rate(name, done)
        self._bars.update(
            self._tasks[name], total=max(total, 1), completed=done, rate=f"{rate:,.0f} rows/s" if rate else ""
        )

    def _rate(self, name: str, done: int) -> float:
        now = time.monotonic()
        began, at = self._began.setdefault(name, (now, done))
        return (done - at) / (now - began) if now > began else 0.0

    def _line(self, name: str, done: int, total: int, activity: Activity) -> None:
        now, rate = time.monotonic(), self._rate(name, done)
        if now - self._printed.get(name, 0.0) < LINE_SECONDS:
            return
        self._printed[name] = now
        percent = min(100.0, 100 * done / total) if total else 100.0
        left = f", {rate:,.0f} rows/s, ETA {duration((total - done) / rate)}" if rate and done < total else ""
        self.say(f"{name}: {activity} {done:,}/{total:,} rows ({percent:.1f} %){left}")
