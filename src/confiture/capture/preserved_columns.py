"""Columns that no value is brought for: a row that is deleted and brought anew keeps what it had in them.

Without it a pass would give the target's own columns their defaults again, and a pass home after the
cutover would lose the source columns that were left behind.
"""

from __future__ import annotations

from psycopg import sql

from confiture.copy.run_table import RunTable
from confiture.plan.projection import Projected, raw, same_key
from confiture.postgres.session import Transaction


def _saved(job: RunTable) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"confiture_saved{job.table.number:04d}")


def rows_of(job: RunTable) -> sql.Identifier:
    """Where the rows of a pass are put first, as they travel."""
    return sql.Identifier("pg_temp", f"confiture_rows{job.table.number:04d}")


def _names(job: RunTable, alias: str) -> sql.Composed:
    """The key's image and the kept columns."""
    names = [*(k.target for k in job.table.key), *job.table.kept]
    return sql.SQL(", ").join(sql.Identifier(alias, n) for n in names)


def prepare(tx: Transaction, job: RunTable) -> None:
    """The two temporary tables, in the session that writes the rows."""
    form = "CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {} FROM {} t WITH NO DATA"
    tx.pg.execute(sql.SQL(form).format(_saved(job), _names(job, "t"), job.target))
    columns = [sql.SQL("{} {}").format(sql.Identifier(p.target), raw(p.wire)) for p in job.table.columns]
    form = "CREATE TEMP TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS"
    tx.pg.execute(sql.SQL(form).format(rows_of(job), sql.SQL(", ").join(columns)))


def delete(tx: Transaction, job: RunTable, keys: sql.Identifier, matches: sql.Composed) -> None:
    """Delete the rows of some keys, and set aside what they keep.

    :param matches: a row ``t`` of the table has the key ``k`` of ``keys``.
    """
    statement = "WITH gone AS (DELETE FROM {} t USING {} k WHERE {} RETURNING {}) INSERT INTO {} SELECT * FROM gone"
    tx.pg.execute(sql.SQL(statement).format(job.target, keys, matches, _names(job, "t"), _saved(job)))


def insert(tx: Transaction, job: RunTable) -> None:
    """Insert the rows of the pass: with what was set aside, or with defaults where there was no row."""
    same = sql.SQL(" AND ").join(
        same_key(sql.Identifier("s", k.target), _value(job, k.target), _projected(job, k.target)) for k in job.table.key
    )
    kept = sql.SQL(", ").join(sql.Identifier(n) for n in job.table.kept)
    values = sql.SQL(", ").join(_value(job, p.target) for p in job.table.columns)
    head = sql.SQL("INSERT INTO {} ({}{}) OVERRIDING SYSTEM VALUE SELECT {}")
    known = head.format(job.target, job.columns, sql.SQL(", ") + kept, values + sql.SQL(", ") + _kept(job))
    tx.pg.execute(known + sql.SQL(" FROM {} r JOIN {} s ON {}").format(rows_of(job), _saved(job), same))
    new = head.format(job.target, job.columns, sql.SQL(""), values)
    none = sql.SQL(" FROM {} r WHERE NOT EXISTS (SELECT FROM {} s WHERE {})")
    tx.pg.execute(new + none.format(rows_of(job), _saved(job), same))


def _kept(job: RunTable) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier("s", n) for n in job.table.kept)


def _projected(job: RunTable, column: str) -> Projected:
    return next(p for p in job.table.columns if p.target == column)


def _value(job: RunTable, column: str) -> sql.Composed:
    p = _projected(job, column)
    value = sql.Composed([sql.Identifier("r", column)])
    return sql.SQL("{}::{}").format(value, raw(p.cast_in)) if p.cast_in else value
