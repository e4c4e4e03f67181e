"""Columns that no pass reads: a row that a pass deletes and inserts again keeps its values in them.

Without this a pass would reset the target's own columns to their defaults, and a reverse pass after the cutover would
lose the values of the source columns that the target does not have.
"""

from __future__ import annotations

from psycopg import sql

from confiture.copy.run_table import RunTable
from confiture.plan.projection import Projected, raw, same_key
from confiture.postgres.session import Transaction
from confiture.sql import template


def _template(block: str) -> sql.SQL:
    return template("catch_up.sql", block)


def _saved(job: RunTable) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"confiture_saved{job.table.number:04d}")


def rows_of(job: RunTable) -> sql.Identifier:
    """The temporary table that the rows of a pass are copied to first, in the types that they are copied in."""
    return sql.Identifier("pg_temp", f"confiture_rows{job.table.number:04d}")


def _names(job: RunTable, alias: str) -> sql.Composed:
    """The key's columns and the preserved columns."""
    names = [*(k.target for k in job.table.key), *job.table.kept]
    return sql.SQL(", ").join(sql.Identifier(alias, n) for n in names)


def prepare(tx: Transaction, job: RunTable) -> None:
    """Create the two temporary tables, in the session that writes the rows."""
    saved = _template("saved_rows").format(saved=_saved(job), preserved=_names(job, "t"), table=job.target)
    tx.pg.execute(saved)
    columns = [sql.SQL("{} {}").format(sql.Identifier(p.target), raw(p.wire)) for p in job.table.columns]
    tx.pg.execute(_template("temporary_table").format(table=rows_of(job), columns=sql.SQL(", ").join(columns)))


def delete(tx: Transaction, job: RunTable, keys: sql.Identifier, matches: sql.Composed) -> None:
    """Delete the rows of some keys, and save the values that no pass reads.

    :param matches: a row ``t`` of the table has the key ``k`` of ``keys``.
    """
    delete = _template("delete_and_save_rows").format(
        table=job.target_rows, keys=keys, matches=matches, preserved=_names(job, "t"), saved=_saved(job)
    )
    tx.pg.execute(delete)


def insert(tx: Transaction, job: RunTable) -> None:
    """Insert the rows of the pass: with the saved values, or with defaults where no row existed before."""
    same = sql.SQL(" AND ").join(
        same_key(sql.Identifier("s", k.target), _value(job, k.target), _projected(job, k.target)) for k in job.table.key
    )
    kept = sql.SQL(", ").join(sql.Identifier(n) for n in job.table.kept)
    values = sql.SQL(", ").join(_value(job, p.target) for p in job.table.columns)
    holes: dict[str, sql.Composable] = {
        "table": job.target,
        "columns": job.columns,
        "values": values,
        "rows": rows_of(job),
        "saved": _saved(job),
        "same_key": same,
    }
    tx.pg.execute(_template("insert_saved_rows").format(preserved=kept, saved_values=_kept(job), **holes))
    tx.pg.execute(_template("insert_new_rows").format(**holes))


def _kept(job: RunTable) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier("s", n) for n in job.table.kept)


def _projected(job: RunTable, column: str) -> Projected:
    return next(p for p in job.table.columns if p.target == column)


def _value(job: RunTable, column: str) -> sql.Composed:
    p = _projected(job, column)
    value = sql.Composed([sql.Identifier("r", column)])
    return sql.SQL("{}::{}").format(value, raw(p.cast_in)) if p.cast_in else value
