"""Where commands speak: progress on stderr (live on a terminal, whole lines elsewhere), results on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import typer
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

from confiture.cli import exit_codes
from confiture.cli.options import Output
from confiture.commands.endpoints import Endpoints
from confiture.journal.runs import Run
from confiture.render import outcome
from confiture.types import visible

#: Seconds between two progress lines of one table where there is no terminal.
LINE_SECONDS = 5.0


class _Console(Console):
    """A console that goes quiet when its reader has gone: nobody listening does not stop a migration."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _to_nowhere(sys.stderr.fileno())


def _to_nowhere(descriptor: int) -> None:
    # Else the interpreter fails once more at its end, when it flushes what is left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class Reporter(AbstractContextManager["Reporter"]):
    """Progress of a command, for the block it is entered for."""

    def __init__(self) -> None:
        self.console = _Console(stderr=True, highlight=False)
        self._live = self.console.is_terminal and not self.console.is_dumb_terminal
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
        self.console.print(visible(text), markup=False, soft_wrap=True)

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
            self._tasks[name] = self._bars.add_task(visible(name), total=max(total, 1), completed=done, rate="")
        if phase == "copied":
            # Its line stays; the bars are for what is being copied, however many tables there are.
            self._bars.remove_task(self._tasks.pop(name))
            self.say(f"{name}: copied {done:,} rows")
            return
        rate = self._rate(name, done)
        self._bars.update(
            self._tasks[name], total=max(total, 1), completed=done, rate=f"{rate:,.0f} rows/s" if rate else ""
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


def emit(text: str, *, as_it_is: bool = False) -> None:
    """A result. Ends the command quietly when the reader has gone, as in ``| head``.

    :param as_it_is: for files: nothing in it is made visible.
    """
    try:
        print(text if as_it_is else visible(text), flush=True)
    except BrokenPipeError:
        _to_nowhere(sys.stdout.fileno())
        raise typer.Exit(exit_codes.BROKEN_PIPE) from None


def show(
    where: Endpoints, run: Run, said: str, format: Output, *lines: str, step: str | None = None, **more: object
) -> None:
    """What a command came to: the run, and for programs ``more``.

    :param where: as the databases were named: the next command names them the same way.
    :param step: the step that comes next; None where the run's state decides it.
    """
    following = outcome.next_commands(run, where.naming, step)
    emit_either(outcome.text(run, said, following, *lines), {**outcome.as_json(run, following), **more}, format)


def emit_either(text: str, value: Mapping[str, Any], format: Output) -> None:
    """A result in the form that was asked for."""
    if format is Output.json:
        emit_json(value)
    else:
        emit(text)


def emit_json(value: Mapping[str, Any]) -> None:
    """A result, for programs: one JSON document."""
    emit(json.dumps(value, indent=2, ensure_ascii=False, default=str))
