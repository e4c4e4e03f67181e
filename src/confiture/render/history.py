"""The history of runs as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import UTC
from itertools import groupby

from confiture.journal.model import Entry, RunHistory
from confiture.render.documents import SCHEMA_VERSION, HistoryDocument
from confiture.states import MIGRATIONS, SYNC
from confiture.status.event_text import event_text
from confiture.types import in_plain_words

#: Columns of a terminal.
WIDTH = 80
_AT = "  %Y-%m-%d %H:%M:%SZ  "
_INDENT = " " * len("  2026-11-27 12:00:00Z  ")


def as_json(found: Sequence[RunHistory]) -> HistoryDocument:
    """The histories as JSON (``schemas/history.json``)."""
    return {"schema_version": SCHEMA_VERSION, "runs": list(found)}


def text(found: Sequence[RunHistory]) -> str:
    """Each run with its events; an actor and a role are printed above the events in a row that are theirs."""
    return "\n\n".join(_run(history) for history in found)


def _run(history: RunHistory) -> str:
    lines = [f"{_subject(history)}  {history.state.upper()}"]
    for by, entries in groupby(history.events, key=_by):
        lines += [by, *(line for entry in entries for line in _entry(entry))]
    return "\n".join(lines)


def _subject(history: RunHistory) -> str:
    """The databases and the kind of the run; migrations have one database."""
    if history.medium == MIGRATIONS:
        return f"{history.target}  migrations {history.run}"
    kind = "sync" if history.medium == SYNC else "run"
    return f"{history.source} -> {history.target}  {kind} {history.run}"


def _by(entry: Entry) -> str:
    return f"{entry.actor} as role {entry.role}" if entry.role is not None else entry.actor


def _entry(entry: Entry) -> list[str]:
    words = [entry.kind]
    if entry.from_state is not None:
        words.append(f"({entry.from_state} -> {entry.to_state})")
    detail = event_text(entry.kind, entry.detail)
    said = in_plain_words(f"{' '.join(words)}: {detail}" if detail else " ".join(words))
    return textwrap.wrap(
        said,
        WIDTH,
        initial_indent=entry.at.astimezone(UTC).strftime(_AT),
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
