"""Bringing home what the application changes in the target after the cutover: the same passes, turned round.

The log is in the target, the rows are read there through the inverse SELECT, and the source commits first
(correctness.md, 7 and 10). Every key brought home is logged on the source again, so that a run that goes on
after a rollback compares and brings over what became of it.
"""

from __future__ import annotations

from typing import cast

from psycopg import sql

from confiture import catalog
from confiture.capture.apply import Followed, Follower, images, keys_of, keys_there, matches
from confiture.capture.triggers import captured, is_tampered
from confiture.config import Database
from confiture.copy.base import Job
from confiture.copy.stream import pipe
from confiture.db import Transaction
from confiture.errors import Refused
from confiture.journal import catchup, progress, runs
from confiture.journal.progress import Json
from confiture.plan import Plan
from confiture.projection import raw
from confiture.runner import Context, check_source_fence
from confiture.types import TableRef


def followed(context: Context, plan: Plan) -> tuple[Followed, ...]:
    """What is brought home, table by table."""
    with context.target.transaction(read_only=True) as tx:
        shapes = {s.number: s.target_shape for s in progress.tables(tx, context.run_id)}
    jobs = {t.number: Job(t, context.schema) for t in plan.back}
    return tuple(
        Followed(item, (jobs[item.number],), shapes[item.number]) for item in captured(plan.back, context.schema)
    )


def shape(tx: Transaction, table: TableRef) -> Json | None:
    """Columns and partitions of a table of the target; None when it is gone."""
    found = catalog.fingerprint(tx, table)
    if found is None:
        return None
    return {"columns": found["columns"], "partitions": sorted(found["storage"] or {})}


class Home(Follower):
    """Catch-up from the target to the source."""

    def __init__(self, context: Context, plan: Plan) -> None:
        super().__init__(context, followed(context, plan))
        self.forward = {t.number: Job(t, context.schema) for t in plan.tables}

    def _ends(self, context: Context) -> tuple[Database, Database]:
        return context.target.database, context.source.database

    def _fence_source(self, source: Transaction) -> None:
        runs.fence(source, self.context.run_id, self.context.epoch)

    def _fence_target(self, target: Transaction) -> None:
        check_source_fence(target, self.context.schema, self.context.epoch)

    def _check(self, source: Transaction, f: Followed) -> None:
        now, then = shape(source, f.item.table), cast(Json, f.fingerprint)
        columns = now["columns"] if now is not None else {}
        changed = [c for c, kind in then["columns"].items() if columns.get(c) != kind]
        if now is None or changed or now["partitions"] != then["partitions"]:
            raise Refused(
                f"table {f.item.table} of the target was changed since the cutover",
                why=f"its {', '.join(changed) or 'partitions'} differ: what was written there may not be logged",
                fix="undo that change; else there is no way back any more",
            )
        if is_tampered(source, f.item):
            raise Refused(
                f"capture on table {f.item.table} of the target was disabled or dropped",
                why="writes made meanwhile may be missing from its log",
                fix="there is no way back any more; the target serves on",
            )

    def _bring_keys(self, source: Transaction, target: Transaction, f: Followed, job: Job) -> int:
        keys = super()._bring_keys(source, target, f, job)
        log = sql.Identifier(self.context.schema, f"log{job.table.number:04d}")
        values = [
            sql.SQL("{}::{}").format(sql.Identifier(f"k{i}"), raw(k.target_type))
            for i, k in enumerate(job.table.key, 1)
        ]
        again = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}")
        target.pg.execute(again.format(log, f.item.log_key, sql.SQL(", ").join(values), keys_of(job)))
        return keys

    def _gone(self, source: Transaction, target: Transaction, job: Job) -> int:
        # Only rows that the run moved: those that $where left behind were never in the target.
        there = keys_there(source, target, job)
        forward = self.forward[job.table.number]
        parts = [
            sql.SQL("v.{} AS {}").format(sql.Identifier(part.name), sql.Identifier(k.target))
            for part, k in zip(forward.table.view_key, job.table.key, strict=True)
        ]
        parts += [
            sql.SQL("v.{}::text AS {}").format(sql.Identifier(p.target), sql.Identifier(f"confiture_image{i}"))
            for i, p in enumerate(images(forward), 1)
        ]
        moved = sql.SQL("SELECT {} FROM {} v").format(sql.SQL(", ").join(parts), forward.view)
        lacking = sql.SQL("FROM ({}) t WHERE NOT EXISTS (SELECT FROM {} k WHERE {})").format(moved, there, matches(job))
        width = range(1, len(job.table.key) + 1)
        texts = sql.SQL(", ").join(sql.Identifier("t", f"confiture_image{i}") for i in width)
        self._images(source, job)
        into = sql.SQL("COPY {} FROM STDIN").format(_touched(job))
        pipe(target, source, sql.SQL("COPY (SELECT {} {}) TO STDOUT").format(texts, lacking), into)
        own = sql.SQL(", ").join(sql.SQL("t.{}::{}").format(sql.Identifier(p.target), raw(p.wire)) for p in images(job))
        return target.pg.execute(sql.SQL("INSERT INTO {} SELECT {} {}").format(keys_of(job), own, lacking)).rowcount

    def _images(self, source: Transaction, job: Job) -> None:
        columns = sql.SQL(", ").join(
            sql.SQL("{} text").format(sql.Identifier(f"k{i}")) for i in range(1, len(job.table.key) + 1)
        )
        source.pg.execute(
            sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(_touched(job), columns)
        )

    def _touch(self, source: Transaction, target: Transaction, f: Followed, job: Job) -> None:
        self._images(source, job)
        texts = sql.SQL(", ").join(
            sql.SQL("{}::text").format(sql.Identifier(f"k{i}")) for i in range(1, len(job.table.key) + 1)
        )
        keys = sql.SQL("INSERT INTO {} SELECT {} FROM {} WHERE NOT truncated")
        source.pg.execute(keys.format(_touched(job), texts, f.changed))
        catchup.touch(source, self.context.run_id, job.table.number, _touched(job), len(job.table.key))

    def _count(self, target: Transaction, keys: int, rows: int) -> int:
        passes = sql.Identifier(self.context.schema, "passes")
        row = target.pg.execute(sql.SQL("UPDATE {} SET home = home + 1 RETURNING home").format(passes)).fetchone()
        assert row is not None
        return int(row[0])

    def _number(self, source: Transaction, number: int) -> None:
        catchup.note_home(source, self.context.run_id, number)


def _touched(job: Job) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"confiture_touched{job.table.number:04d}")


def refuse_behind(context: Context) -> None:
    """:raises Refused: when the target knows of a pass home that the source has lost."""
    passes = sql.Identifier(context.schema, "passes")
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        row = source.pg.execute(sql.SQL("SELECT home FROM {}").format(passes)).fetchone()
        known = catchup.last_home(target, context.run_id)
    if row is None or row[0] < known:
        raise Refused(
            f"the old database has lost changes: it knows pass {row[0] if row else 0} home, the target pass {known}",
            why="it crashed with commits not on disk, was failed over, or restored from a backup",
            fix="there is no way back any more; the target serves on",
        )
