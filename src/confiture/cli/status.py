"""``status``: the severity, the serving database and the next command, with the exit codes of monitoring plugins."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from confiture.cli import exit_codes, monitoring, options, terminal
from confiture.config import find_project
from confiture.errors import ConfitureError, UsageError, WaitedOut
from confiture.render import status as render
from confiture.states import STATES
from confiture.status import report
from confiture.status.facts import Report, Severity
from confiture.types import visible


class Form(StrEnum):
    """How the report is printed."""

    text = "text"
    json = "json"
    nagios = "nagios"
    openmetrics = "openmetrics"
    prometheus = "prometheus"


class State(StrEnum):
    """A state to wait for."""

    setup, migrating, verified, cutover, cleaned, aborted = STATES


#: Seconds between two reports while ``--wait`` waits.
POLL_SECONDS = 1.0
#: Seconds between two reports of ``--watch`` without a number.
WATCH_SECONDS = 2.0


class Command(monitoring.Command):
    """``--watch`` accepts an optional number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line; insert the default seconds of ``--watch``."""
        return super().parse_args(ctx, _with_seconds(args))


def _with_seconds(args: list[str]) -> list[str]:
    def spelled(place: int, word: str) -> str:
        bare = word == "--watch" and not re.fullmatch(r"[\d.]+", "".join(args[place + 1 : place + 2]))
        return f"{word}={WATCH_SECONDS}" if bare else word

    return [spelled(place, word) for place, word in enumerate(args)]


_Watch = Annotated[
    float | None,
    typer.Option(
        "--watch", min=0.2, metavar="[SECONDS]", help="Repeat the report, every 2 seconds if no number is given."
    ),
]


def status(
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="The target to report on.",
            show_default="every environment of the project",
            autocompletion=options.environments,
        ),
    ] = None,
    project: options.Project = None,
    format: Annotated[
        Form, typer.Option("--format", help="Output for people, programs, monitoring or metrics.")
    ] = Form.text,
    every: Annotated[bool, typer.Option("--all", help="Include all tables, and runs that are over.")] = False,
    watch: _Watch = None,
    wait: Annotated[State | None, typer.Option("--wait", help="Return when a run reaches this state.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Maximum seconds for --wait.")] = 3600.0,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write the report as a page to this file, each time it is made.")
    ] = None,
    show_values: options.ShowValues = False,
) -> None:
    """Report the state of a run and the next command.

    The exit code is 0 for OK, 1 for WARNING, 2 for CRITICAL and 3 for UNKNOWN.
    """
    where = project if project is not None else find_project(Path.cwd())

    page = _Page(html, show_values) if html is not None else None

    def look() -> Report:
        read = report.report if page is None else page.look
        return read(target, where, every=every, given_project=project)

    def show(found: Report) -> None:
        _print(found, format, every)
        if page is not None and page.error is not None:
            terminal.print_error(page.error)

    try:
        found = look()
        if page is None or page.error is None:  # a file that cannot be written is reported now
            found = _waited(look, wait, timeout) if wait is not None else found
            if watch is not None:
                _watch(look, watch, show)
    except WaitedOut:
        raise
    except ConfitureError as error:
        terminal.print_error(error)
        if format is not Form.text:
            with suppress(ConfitureError):  # one error is reported already
                _print(report.unknown(error), format, every)
        raise typer.Exit(exit_codes.of_status(Severity.UNKNOWN)) from None
    try:
        show(found)
    except ConfitureError as error:
        terminal.print_error(error)
        raise typer.Exit(exit_codes.of_status(Severity.UNKNOWN)) from None
    unwritten = page is not None and page.error is not None
    raise typer.Exit(exit_codes.of_status(Severity.UNKNOWN if unwritten else found.severity))


class _Page:
    """The file of ``--html``. It hides no report when it cannot be written, for example while its disk is full.

    :ivar error: why the last report was not written; None if it was.
    """

    def __init__(self, path: Path, show_values: bool) -> None:
        self._path = path
        self._show_values = show_values
        self.error: ConfitureError | None = None

    def look(self, target: str | None, project: Path, **asked: Any) -> Report:
        """The report, which is also written to the file."""
        from confiture.status.details_reader import page_facts
        from confiture.web import file, page  # with the library of the templates, which other reports do without

        facts = page_facts(target, project, **asked, show_values=self._show_values)
        try:
            file.write(self._path, page.html(facts), private=self._show_values)
            self.error = None
        except UsageError as error:
            self.error = error
        return facts.report


def _waited(look: Callable[[], Report], state: State, timeout: float) -> Report:
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if state.value in found.states:
            return found
        if time.monotonic() >= deadline:
            raise WaitedOut(
                f"no run reached state {state.value} within {timeout:g} s",
                why=found.summary,
                fix="run confiture status, or wait longer with --timeout",
            )
        time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _watch(look: Callable[[], Report], seconds: float, show: Callable[[Report], None]) -> None:
    """Print reports until interrupted. On a terminal, each report replaces the previous report."""
    while True:
        found = look()
        if _on_terminal():
            terminal.emit(_CLEAR, as_it_is=True, end="")
        show(found)
        time.sleep(seconds)


def _height() -> int | None:
    """Lines of the terminal; None when standard output is not one."""
    return shutil.get_terminal_size().lines if sys.stdout.isatty() else None


#: The sequence that empties a terminal, and moves its cursor to the first line.
_CLEAR = "\x1b[2J\x1b[H"
_COLOURS = {Severity.OK: "32", Severity.WARNING: "33", Severity.CRITICAL: "31;1", Severity.UNKNOWN: "35"}


def _on_terminal() -> bool:
    """Whether to print control sequences: on a terminal, or if FORCE_COLOR is set."""
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def _coloured(text: str) -> str:
    """The report with its severities in colour on a terminal, unless NO_COLOR is set."""
    if os.environ.get("NO_COLOR") or not _on_terminal():
        return text
    words = "|".join(severity.name for severity in Severity)

    def colour(word: re.Match[str]) -> str:
        return f"\x1b[{_COLOURS[Severity[word[0]]]}m{word[0]}\x1b[0m"

    return re.sub(rf"^(?:{words})(?= )", colour, text, flags=re.MULTILINE)


def _print(found: Report, format: Form, every: bool) -> None:
    if format is Form.json:
        terminal.emit_json(found.as_json())
        return
    if format is Form.text:
        # Control characters of names are escaped before the colours are added.
        terminal.emit(_coloured(visible(render.text(found, every=every, height=_height()))), as_it_is=True)
        return
    if format is Form.nagios:
        terminal.emit(render.nagios(found))
        return
    from confiture.render import metrics  # imports prometheus-client, which the other formats do not need

    terminal.emit(metrics.exposition(found, text=format is Form.prometheus), as_it_is=True, end="")
