"""Bringing home what the application changes in the target after the cutover: the same passes, turned round.

The log is in the target, the rows are read there through the inverse SELECT, and the source commits first
(docs/invariants.md, I-10.1). Every key brought home is logged on the source again, so that a run that goes on
after a rollback compares and brings over what became of it (I-7.6).
"""

from __future__ import annotations

from psycopg import sql

from confiture import fingerprint
from confiture.capture import write_block
from confiture.capture.apply import Followed, Follower, images, keys_of, keys_there, matches
from confiture.capture.triggers import captured
from confiture.config import Database
from confiture.copy.run_table import RunTable
from confiture.copy.stream import pipe
from confiture.errors import Blocked
from confiture.journal import catch_up, runs
from confiture.journal import source as run_schema
from confiture.plan.planner import Plan
from confiture.plan.projection import raw
from confiture.postgres.session import Transaction
from confiture.runner.context import Context


def followed(context: Context, plan: Plan) -> tuple[Followed, ...]:
    """What is applied in reverse, table by table."""
    jobs = {t.number: RunTable(t, context.schema, side="target") for t in plan.back}
    return tuple(Followed(item, (jobs[item.number],)) for item in captured(plan.back, context.schema))


class ReverseFollower(Follower):
    """Catch-up from the target to the source."""

    sides = ("target", "source")

    def __init__(self, context: Context, plan: Plan) -> None:
        super().__init__(context, followed(context, plan))
        self.forward = {t.number: RunTable(t, context.schema) for t in plan.tables}
        self._lsn: str | None = None
        self._known = 0

    def _ends(self, context: Context) -> tuple[Database, Database]:
        return context.target.database, context.source.database

    _side = "target"

    def _fence_source(self, source: Transaction) -> None:
        runs.fence(source, self.context.run_id, self.context.epoch)

    def _fence_target(self, target: Transaction) -> None:
        run_schema.fence(target, self.context.schema, self.context.epoch)

    def _check_source(self, source: Transaction) -> None:
        fingerprint.refuse_unreadable(source, self.context.schema, "target", [f.item.table for f in self.followed])

    def _check_target(self, target: Transaction) -> None:
        write_block.refuse_damaged(target, self.context.schema, "source")
        tables = [f.jobs[0].table.target for f in self.followed]
        fingerprint.refuse_changed(target, self.context.schema, "source", fingerprint.APPLIED, tables)

    def _begin(self, source: Transaction) -> None:
        row = source.pg.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        self._lsn = row[0] if row is not None else None
        self._known = catch_up.last_home(source, self.context.run_id)

    def _bring_keys(self, source: Transaction, target: Transaction, f: Followed, job: RunTable) -> int:
        keys = super()._bring_keys(source, target, f, job)
        log = sql.Identifier(self.context.schema, f"log{job.table.number:04d}")
        values = [
            sql.SQL("{}::{}").format(sql.Identifier(f"k{i}"), raw(k.target_type))
            for i, k in enumerate(job.table.key, 1)
        ]
        again = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}")
        target.pg.execute(again.format(log, f.item.log_key, sql.SQL(", ").join(values), keys_of(job)))
        return keys

    def _gone(self, source: Transaction, target: Transaction, job: RunTable) -> int:
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

    def _images(self, source: Transaction, job: RunTable) -> None:
        columns = sql.SQL(", ").join(
            sql.SQL("{} text").format(sql.Identifier(f"k{i}")) for i in range(1, len(job.table.key) + 1)
        )
        source.pg.execute(
            sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(_touched(job), columns)
        )

    def _touch(self, source: Transaction, target: Transaction, f: Followed, job: RunTable) -> None:
        self._images(source, job)
        texts = sql.SQL(", ").join(
            sql.SQL("{}::text").format(sql.Identifier(f"k{i}")) for i in range(1, len(job.table.key) + 1)
        )
        keys = sql.SQL("INSERT INTO {} SELECT {} FROM {} WHERE NOT truncated")
        source.pg.execute(keys.format(_touched(job), texts, f.changed))
        catch_up.record_changed(source, self.context.run_id, job.table.number, _touched(job), len(job.table.key))

    def _count(self, target: Transaction, keys: int, rows: int) -> int:
        number = run_schema.count_reverse_pass(target, self.context.schema, self._known, self._lsn)
        if number is None:
            raise _restored(self._known)
        return number

    def _number(self, source: Transaction, number: int) -> None:
        catch_up.note_home(source, self.context.run_id, number)


def _touched(job: RunTable) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"confiture_touched{job.table.number:04d}")


def refuse_behind(context: Context) -> None:
    """:raises Blocked: when either side has recorded a reverse pass that the other one has lost."""
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        passed, lsn = run_schema.last_reverse_pass(source, context.schema)
        known = catch_up.last_home(target, context.run_id)
        ahead = target.pg.execute("SELECT coalesce(pg_current_wal_lsn() >= %s::pg_lsn, true)", (lsn,)).fetchone()
    if passed < known:
        raise Blocked(
            f"the source has lost changes: it has recorded reverse pass {passed}, the target {known}",
            why="it crashed with commits not on disk, was failed over, or was restored from a backup",
            fix="rollback is no longer possible; the target is still serving",
        )
    if passed > known + 1 or ahead != (True,):
        raise _restored(known)


def _restored(known: int) -> Blocked:
    return Blocked(
        "the target has lost changes that were applied to the source",
        why=f"it has recorded reverse pass {known}, and the source has recorded a later one: it was restored from a"
        " backup, or failed over to a standby that was behind",
        fix="compare both databases by hand: the source has rows that the target has lost; the target is still serving",
    )
