"""Lines of the status report that are the same for every medium."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime

from confiture.status.facts import ErrorReport, NextReport, RunnerReport, ServerReport, SourceReport
from confiture.types import counted, duration, in_plain_words

#: Columns of a terminal. A command is never split over two lines.
WIDTH = 80
INDENT = " " * 8
#: Errors that the text shows of each run; the JSON has those of the last 24 hours.
ERRORS_SHOWN = 3


def headline(first: str, reasons: Sequence[str]) -> list[str]:
    """The first line, with the reasons if they fit, else below it, the most severe first."""
    words = [in_plain_words(reason) for reason in reasons]
    line = ", ".join([first, *words])
    if len(line) <= WIDTH:
        return [line]
    return [*_split(first), *(line for reason in words for line in wrapped("   why  ", reason))]


def _split(first: str) -> list[str]:
    """The first line, at its double spaces if it is too long."""
    if len(first) <= WIDTH:
        return [first]
    before, _, last = first.rpartition("  ")
    return [before, *wrapped(INDENT, last)] if before else wrapped("", first)


def beside(*parts: str) -> list[str]:
    """The parts beside each other where they fit into a line; one that is longer than a line is wrapped."""
    lines = [parts[0]]
    for part in parts[1:]:
        line = f"{lines[-1]}{INDENT}{part}"
        lines[-1:] = [line] if len(line) <= WIDTH else [lines[-1], part]
    return [short for line in lines for short in ([line] if len(line) <= WIDTH else wrapped("", line))]


def wrapped(label: str, words: str) -> list[str]:
    """A label and its text, wrapped at the terminal's width."""
    return textwrap.wrap(
        words, WIDTH, initial_indent=label, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
    )


def cut(lines: list[str], room: int) -> list[str]:
    """The first lines; the last one shows that more are left out."""
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"{lines[room - 1][: WIDTH - 4]} ..."] if room else []


def clock(value: datetime | None) -> str:
    """A moment, to the minute."""
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M}Z"


def place(server: ServerReport | SourceReport) -> str:
    """Host, port, database and version; without what libpq determines."""
    host, port = server["host"], server["port"]
    shown = f"[{host}]" if host and ":" in host and "," not in host else host or ""
    at = f"{shown}{f':{port}' if port is not None else ''}/" if shown else ""
    return f"{at}{server['database']}  PostgreSQL {server['version'].split()[0]}"


def runner(runner: RunnerReport, restarts: int, last_restart: datetime | None, now: datetime) -> str:
    """The last command that held a run.

    :param restarts: the number of takeovers, of which the last was at ``last_restart``.
    """
    again = f"; restarts {restarts} (last {clock(last_restart)})" if restarts else ""
    if runner.host is None:
        return "none yet"
    process = f"{runner.host} pid {runner.pid} ({runner.command})"
    if runner.ended:
        return f"none; last: {process}{_ended(runner.ended_at, now)}{again}"
    age = f"heartbeat {duration(runner.silent_seconds or 0)} ago"
    return f"{process}, {age}{'' if runner.alive else ', DEAD'}{again}"


def _ended(at: datetime | None, now: datetime) -> str:
    return f", ended {clock(at)}, {duration((now - at).total_seconds())} ago" if at is not None else ""


def blocked(waiting: int) -> str:
    """The sessions that confiture blocks, in words."""
    if not waiting:
        return "no session is blocked by confiture"
    return f"{counted(waiting, 'session')} {'is' if waiting == 1 else 'are'} blocked by confiture"


def number_of_errors(errors: Sequence[ErrorReport]) -> str:
    """How many errors there are."""
    return f"Errors  {len(errors)} in 24 h" if errors else "Errors  none in 24 h"


def newest_errors(errors: Sequence[ErrorReport]) -> list[str]:
    """The newest errors."""
    found = errors[:ERRORS_SHOWN]
    texts = [f"{clock(error['at'])} {error['kind']}: {in_plain_words(error['text'])}" for error in found]
    return [line for text in texts for line in wrapped(INDENT, text)]


def following(step: NextReport) -> list[str]:
    """The next action with its command, and its alternatives."""
    lines = []
    for n, one in enumerate((step, *step["alternatives"])):
        label = "Next    " if n == 0 else "   or   "
        line = f"{label}{one['action']}{': ' + one['command'] if one['command'] else ''}"
        if one["command"] is None or len(line) <= WIDTH:
            lines += wrapped(label, line.removeprefix(label))
        else:
            lines += [*wrapped(label, f"{one['action']}:"), f"{INDENT}{one['command']}"]
    return lines + ([f"{INDENT}({step['hint']})"] if step["hint"] else [])
