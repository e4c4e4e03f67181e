"""Copying by postgres_fdw: the target's server reads the source's view itself.

https://www.postgresql.org/docs/current/postgres-fdw.html
"""

from __future__ import annotations

import json

import psycopg
from psycopg import sql

from confiture.copy.large_row import is_too_large
from confiture.copy.run_table import RunTable
from confiture.copy.stream import Stream
from confiture.plan.keyset import predicate
from confiture.plan.projection import raw
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.types import KeyRange, KeyValue


class Fdw:
    """``INSERT ... SELECT`` from the foreign table; COPY where a row is too large for it, because it transfers text."""

    def move(
        self, source: Transaction, target: Transaction, job: RunTable, span: KeyRange, most: int | None = None
    ) -> int:
        """Insert the rows of ``span``; ``source`` locks the table, so that it is not rewritten."""
        try:
            with target.pg.transaction():
                return target.pg.execute(insert(job, span, most)).rowcount
        except psycopg.Error as error:
            if not is_too_large(error):
                raise
        return Stream().move(source, target, job, span, most)


def insert(job: RunTable, span: KeyRange, most: int | None = None) -> sql.Composed:
    """The statement that copies ``span``, or ``most`` of its rows."""
    within = predicate(job.table.view_key, span, "expanded")
    return sql.SQL("INSERT INTO {} {} OVERRIDING SYSTEM VALUE SELECT {} FROM {} WHERE {} LIMIT {}").format(
        job.target, job.column_list, _select_list(job), job.view, within, most
    )


def _select_list(job: RunTable) -> sql.Composed:
    """The columns; one that is copied as text is converted by the input function of the target's type."""
    items = []
    for p in job.table.columns:
        name = sql.Identifier(p.target)
        items.append(sql.SQL("{}::{}").format(name, raw(p.cast_in)) if p.cast_in else name)
    return sql.SQL(", ").join(items)


def foreign_table(job: RunTable, server: str) -> sql.Composed:
    """CREATE FOREIGN TABLE over the run's view, in the run's schema on the target."""
    columns = [sql.SQL("{} {}").format(sql.Identifier(part.name), raw(part.type)) for part in job.table.view_key]
    columns += [sql.SQL("{} {}").format(sql.Identifier(p.target), raw(p.wire)) for p in job.table.columns]
    return sql.SQL(
        "CREATE FOREIGN TABLE {} ({}) SERVER {} OPTIONS (schema_name {}, table_name {}, fetch_size {})"
    ).format(
        job.view,
        sql.SQL(", ").join(columns),
        sql.Identifier(server),
        sql.Literal(job.schema),
        sql.Literal(job.table.view),
        sql.Literal(str(job.table.fetch_rows)),
    )


def ships(tx: Transaction, job: RunTable, sample: KeyValue) -> bool:
    """Whether the whole range is sent to the source, as EXPLAIN shows it (docs/invariants.md, I-3.9).

    A condition that is not shipped would be evaluated on the target, with the target's collation.

    :param sample: any key of the table.
    """
    statement = sql.SQL("EXPLAIN (VERBOSE, FORMAT JSON) {}").format(insert(job, KeyRange(sample, sample)))
    (answer,) = only_row(tx.pg.execute(statement))
    plan = answer if isinstance(answer, list) else json.loads(answer)
    scans = list(_scans(plan[0]["Plan"]))
    return bool(scans) and all("Filter" not in s and _has_all(s["Remote SQL"], job) for s in scans)


def _has_all(remote: str, job: RunTable) -> bool:
    where = remote.partition(" WHERE ")[2]
    return all(part.name in where for part in job.table.view_key)


def _scans(node: dict[str, object]) -> list[dict[str, str]]:
    found = []
    if node.get("Node Type") == "Foreign Scan":
        found.append({k: str(v) for k, v in node.items()})
    children = node.get("Plans", [])
    assert isinstance(children, list)
    for child in children:
        found += _scans(child)
    return found
