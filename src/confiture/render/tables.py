"""The tables of a run in the text of the status report."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from confiture.journal.model import TablePhase
from confiture.render.lines import WIDTH
from confiture.status.facts import TableReport
from confiture.types import abbreviated, counted, without_public

#: Tables that the text shows of each run without ``--all``.
MOST = 10
#: Tables that have more room than errors; where there is no room for them either, they are counted only.
AT_LEAST = 2
#: Columns of a table's name; the middle of a longer name is omitted.
NAME_WIDTH = 30


def shown(tables: Sequence[TableReport], *, every: bool, room: int) -> list[str]:
    """A line for each table, those that need attention first.

    :param every: all of them, and their names in full.
    :param room: lines for tables; the number of the others follows.
    """
    if not tables:
        return ["no table is planned yet"]
    # Failed tables come first, then tables in progress, then planned tables, then finished tables.
    order = {**dict.fromkeys(TablePhase, 1), TablePhase.PLANNED: 2, TablePhase.FINISHED: 3}
    if room < AT_LEAST and not every and len(tables) > room:
        finished = sum(t.phase is TablePhase.FINISHED for t in tables)
        return [f"{counted(len(tables), 'table')}, {finished:,} finished (--all)"]
    rows = sorted(tables, key=lambda t: (0 if t.failed_chunks else order[t.phase], t.target))
    first = rows if every else rows[:room]
    short = without_public(t.target for t in tables)
    names = {t.target: short[t.target] if every else _shortened(short[t.target]) for t in first}
    width = max(5, *(cell_len(name) for name in names.values()))
    lines = [f"{'TABLE':<{width}}  {'PHASE':<9} {'ROWS':>17} {'%':>6}  CHECKPOINT"]
    rest = None if every else WIDTH - width - 39
    lines += [_table(t, set_cell_size(names[t.target], width), rest) for t in first]
    if len(rows) > len(first):
        lines.append(f"+{len(rows) - len(first)} more (--all)")
    if any(t.total_is_estimate for t in first):
        lines.append("~ = estimate")
    return lines


def _shortened(name: str) -> str:
    """A name in at most :data:`NAME_WIDTH` columns; its beginning and its end distinguish it from others."""
    if cell_len(name) <= NAME_WIDTH:
        return name
    half = (NAME_WIDTH - 3) // 2
    end = ""
    for character in reversed(name):
        if cell_len(character + end) > half:
            break
        end = character + end
    return set_cell_size(name, NAME_WIDTH - 3 - cell_len(end)) + "..." + end


def _table(t: TableReport, name: str, room: int | None) -> str:
    """One line; ``room`` is the number of columns for the checkpoint, None for any."""
    total = f"{'~' if t.total_is_estimate else ''}{abbreviated(t.rows_total)}"
    note = (
        f"{t.rebuilt}/{t.to_rebuild} indexes and constraints" if t.phase is TablePhase.INDEXING else t.checkpoint or ""
    )
    if t.failed_chunks:
        note = f"{counted(t.failed_chunks, 'chunk')} FAILED: {t.last_error or ''}"
    rows = f"{abbreviated(t.rows_done)}/{total}"
    if room is not None and cell_len(note) > max(room, 10):
        note = set_cell_size(note, max(room, 10) - 3) + "..."
    return f"{name}  {t.phase:<9} {rows:>17} {t.percent:>6.1f}  {note}".rstrip()
