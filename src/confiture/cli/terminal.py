"""The output of commands: results on stdout, errors on stderr. ``progress`` prints their progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

import typer

from confiture.cli import exit_codes
from confiture.cli.options import Output
from confiture.cli.streams import to_nowhere, unwritten
from confiture.commands.endpoints import Endpoints
from confiture.errors import ConfitureError, UsageError
from confiture.journal.model import Run
from confiture.types import in_plain_words, visible

if TYPE_CHECKING:
    from confiture.render.documents import CommandResult
    from confiture.schema_to_schema.outcomes import Rehearsal


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


def emit(text: str, *, as_it_is: bool = False, end: str = "\n") -> None:
    """Print a result. End the command without an error when the reader has closed the pipe, as in ``| head``.

    :param as_it_is: print control characters unchanged, for the text of a file.
    :param end: what follows the text.
    """
    try:
        print(text if as_it_is else visible(text), end=end, flush=True)
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
    from confiture.render import outcome  # a command that only reads does without the types of all documents

    following = next_commands(where, run, step)
    text = outcome.text(run, said, following, *lines, refused=refused)
    emit_either(text, {**outcome.as_json(run, following), **more}, format)


def next_commands(where: Endpoints, run: Run, step: str | None = None) -> tuple[str, ...]:
    """The next command and its alternatives; the approval of a cutover that needs one and has none."""
    from confiture import commands
    from confiture.render import outcome

    if step in (None, "cutover"):
        step = commands.approve.next_step(where, run) or step
    return outcome.next_commands(run, where.naming, step)


def show_rehearsal(where: Endpoints, run: Run, switch: str, found: Rehearsal, format: Output, *lines: str) -> None:
    """Print what a switch that began now would meet, and the next command.

    :param switch: ``cutover`` or ``rollback``.
    :raises CutoverAborted: when the switch would be aborted.
    """
    from confiture.render import rehearsal

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
    emit(as_json(value, ascii_only=_ascii_only()))


def as_json(value: Mapping[str, object], *, ascii_only: bool = False) -> str:
    """A document as the text of a file.

    :param ascii_only: whether other characters are escaped.
    """
    return json.dumps(value, indent=2, ensure_ascii=ascii_only, default=_plain)


def _ascii_only() -> bool:
    """Whether JSON has to escape other characters, because standard output cannot represent all of them."""
    return (sys.stdout.encoding or "utf-8").lower().replace("_", "-") not in ("utf-8", "utf8")


def _plain(value: object) -> object:
    """A value of a document as JSON: a dataclass by its fields, a time in ISO 8601, another value as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
