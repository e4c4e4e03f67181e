"""Write the manual page ``man/confiture.1`` from the commands: ``python docs/generate_man.py``, or ``make man``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from confiture import __version__
from confiture.cli import app
from confiture.cli.command import records
from confiture.cli.help_texts import EXAMPLES, EXIT_CODES, PREFIXES, key

PAGE = Path(__file__).parent.parent / "man/confiture.1"
#: The commands whose exit codes are those of all, and those of monitoring.
_ALL, _MONITORING = "cutover", "status"
#: In the order of the page: a term, and its text.
_ENVIRONMENT = (
    ("PGPASSFILE, PGPASSWORD, PGSERVICEFILE, ...", "Variables of libpq, for addresses that leave a parameter out."),
    ("NO_COLOR, FORCE_COLOR", "Print severities without colours, or with colours where there is no terminal."),
    ("COLUMNS", "The width of the output."),
)
_FILES = (
    ("db/environments/NAME.yaml", "The address of a database, which --source and --target name."),
    ("db/schema/", "The DDL of the new schema, in the order of the paths."),
    ("mapping.yaml", "The differences between the schemas, given with --mapping."),
    ("differences.jsonl", "The rows that differ, written by verify and cutover."),
)


def page() -> str:
    """The manual page as it must be."""
    root = typer.main.get_command(app)
    lines = [
        '.\\" Written by docs/generate_man.py: do not edit.',
        f'.TH CONFITURE 1 "" "confiture {__version__}" "User Commands"',
        *_section("NAME", "confiture \\- move a live PostgreSQL database into a new database with a new schema"),
        *_section("SYNOPSIS", "\\fBconfiture\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]"),
        ".SH DESCRIPTION",
        *_paragraphs(
            "The application continues to write during the move. After a kill at any point, the same command continues."
            " Every row is compared before the cutover. A rollback after the cutover loses no write, where plan has"
            " stated that it is possible.\n\n"
            "The steps are setup, migrate, verify, cutover and cleanup, in this order. status reports the state of a"
            " run and the next command."
        ),
        ".SH OPTIONS",
        *_options(root),
        ".SH COMMANDS",
        *(line for path, command in _leaves(root) for line in _command(path, command)),
        ".SH EXIT STATUS",
        *_terms((str(code), text) for code, text in EXIT_CODES[_ALL].items()),
        *_paragraphs("status exits as monitoring expects:"),
        *_terms((str(code), text) for code, text in EXIT_CODES[_MONITORING].items()),
        ".SH ENVIRONMENT",
        *_terms(_ENVIRONMENT),
        ".SH FILES",
        *_terms(_FILES),
        *_section("SEE ALSO", "\\fBpsql\\fR(1), \\fBpg_dump\\fR(1), \\fBpgbouncer\\fR(1)"),
    ]
    return "\n".join(lines) + "\n"


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from _leaves(below, (*path, name))
        else:
            yield (*path, name), below.called


def _command(path: tuple[str, ...], command: Any) -> Iterator[str]:
    arguments = [f"[{term}]" for term, _ in records(command, _context(command), "argument")]
    yield f'.SS "confiture {" ".join(path)}"'
    yield _escaped(" ".join([f"confiture {' '.join(path)}", *arguments, "[OPTIONS]"]))
    yield from _paragraphs(command.help or "")
    yield from _options(command)
    examples = EXAMPLES.get(key(path), ())
    if examples:
        yield from (".PP", "Examples:", ".PP", ".nf", ".RS 4")
        yield from (_escaped(PREFIXES.get(key(path), "confiture ") + example) for example in examples)
        yield from (".RE", ".fi")


def _context(command: Any) -> Any:
    return command.make_context(command.name, [], resilient_parsing=True)


def _options(command: Any) -> Iterator[str]:
    for kind in ("argument", "option"):
        found = records(command, _context(command), kind)
        yield from _terms((term, text) for term, text in found if term != "--help")


def _terms(terms: Any) -> Iterator[str]:
    """Each term in bold, with its text below it."""
    for term, text in terms:
        yield ".TP"
        yield f".B {_escaped(term)}"
        yield _escaped(text)


def _section(title: str, line: str) -> Iterator[str]:
    yield f".SH {title}"
    yield line


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _escaped(text: str) -> str:
    """The text as troff reads it: without a control character, and with hyphens as they are typed."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in " ".join(text.split()))
    return re.sub(r"^([.'])", r"\\&\1", text)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="ascii")
