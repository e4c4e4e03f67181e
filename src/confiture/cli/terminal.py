"""The output of commands: progress on stderr (live on a terminal, whole lines elsewhere), results on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Unpack

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from confiture.cli import exit_codes
from confiture.cli.options import Output
from confiture.cli.streams import to_nowhere, unwritten
from confiture.commands.endpoints import Endpoints
from confiture.errors import ConfitureError, UsageError
from confiture.journal.model import Run
from confiture.render import outcome, rehearsal
from confiture.render.documents import CommandResult
from confiture.schema_to_schema.outcomes import Rehearsal
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


def print_error(error: ConfitureError, *, verbose: bool = False) -> None:
    """Print an error on standard error: what failed, why, and what to do next.

    :param verbose: print the details too.
    """
    said = [in_plain_words(line) for line in (error.what, error.why) if line]
    first, *rest = [*said, *filter(None, (error.fix, error.detail if verbose else ""))]
    print(f"confiture: {visible(first)}", file=sys.stderr)
    for line in rest:
        for part in line.splitlines():
            print(f"  {visible(part)}", file=sys.stderr)


def emit(text: str, *, as_it_is: bool = False) -> None:
    """Print a result. End the command without an error when the reader has closed the pipe, as in ``| head``.

    :param as_it_is: print control characters unchanged, for the text of a file.
    """
    try:
        print(text if as_it_is else visible(text), flush=True)
    except BrokenPipeError:
        to_nowhere(sys.stdout.fileno())
        raise typer.Exit(exit_codes.BROKEN_PIPE) from None
    except OSError as error:
        raise unwritten(error) from None


def refuse_escapes(text: str) -> None:
    """:raises UsageError: standard output cannot represent the text of a file, which an escape would change."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"standard output has the encoding {encoding}, which lacks a character of the text",
            why=f"the character is {error.object[error.start]!a}",
            fix="set PYTHONIOENCODING=utf-8, or write a file with --output",
        ) from None


def show(
    where: Endpoints,
    run: Run,
    said: str,
    format: Output,
    *lines: str,
    step: str | None = None,
    refused: bool = False,
    **more: Unpack[CommandResult],
) -> None:
    """Print the outcome of a command: the run and the next command; in JSON also ``more``.

    :param where: the databases as the operator named them; the next command names them in the same way.
    :param step: the next step; None when the run's state determines it.
    :param refused: an error follows, which contains what to do next.
    """
    following = outcome.next_commands(run, where.naming, step)
    text = outcome.text(run, said, following, *lines, refused=refused)
    emit_either(text, {**outcome.as_json(run, following), **more}, format)


def show_rehearsal(where: Endpoints, run: Run, switch: str, found: Rehearsal, format: Output, *lines: str) -> None:
    """Print what a switch that began now would meet, and the next command.

    :param switch: ``cutover`` or ``rollback``.
    :raises CutoverAborted: when the switch would be aborted.
    """
    refused = found.problem is not None
    step = f"{switch} --dry-run" if refused else switch
    said, more = rehearsal.said(found, switch), (*rehearsal.text(found), *lines)
    show(where, run, said, format, *more, step=step, refused=refused, rehearsal=rehearsal.as_json(found))
    if found.problem is not None:
        raise found.problem


def emit_either(text: str, value: Mapping[str, object], format: Output) -> None:
    """Print a result in the requested format."""
    if format is Output.json:
        emit_json(value)
    else:
        emit(text)


def emit_json(value: Mapping[str, object]) -> None:
    """Print a result as one JSON document."""
    emit(json.dumps(value, indent=2, ensure_ascii=_ascii_only(), default=_plain))


def _ascii_only() -> bool:
    """Whether JSON has to escape other characters, because standard output cannot represent all of them."""
    return (sys.stdout.encoding or "utf-8").lower().replace("_", "-") not in ("utf-8", "utf8")


def _plain(value: object) -> object:
    """A value of a document as JSON: a dataclass by its fields, another value as text."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
