"""The level of a finding by the size of its table, where a database is named. No I/O."""

from __future__ import annotations

from confiture.lint.locks import Work
from confiture.lint.model import Draft, Level, Size
from confiture.lint.seen import Seen
from confiture.types import byte_size

#: Up to this size, a scan or a rewrite ends within the default ``lock_timeout`` of ``migrate up``, 2 seconds, also on
#: a disk that writes no more than 8 MiB a second.
SMALL_TABLE_BYTES = 16 * 2**20
#: From this size, the default of ``--large-table``, a rewrite lasts minutes: a move is better than a migration.
LARGE_TABLE_BYTES = 10 * 1000**3


def weighed(draft: Draft, seen: Seen, large: int) -> tuple[Level, Size | None, str | None]:
    """The level of a finding, the size of its table, and the reason for the level.

    :param large: bytes from which a rewrite refers to schema-to-schema.
    :returns: without a database, the level of the rule and None twice.
    """
    level = draft.level or draft.rule.level
    if seen.facts is None or draft.table is None:
        return level, None, None
    found = seen.fact(draft.table)
    if found is None:
        return level, None, f"the database has no table {draft.table}: its size is not known"
    if draft.work is Work.none:
        return level, found.size, None
    size = found.size.size_bytes
    if size <= SMALL_TABLE_BYTES:
        return Level.note, found.size, f"a note, because the table has only {byte_size(size)}"
    if size >= large and draft.work in (Work.rewrite, Work.rows):
        advice = "consider a move instead: confiture migrate schema-to-schema plan"
        return level, found.size, f"the table has {byte_size(size)}: {advice}"
    return level, found.size, f"the table has {byte_size(size)}"
