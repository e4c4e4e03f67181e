"""Catch-up in reverse: after the cutover, passes apply the application's changes in the target to the source.

The log is in the target, the rows are read there through the reverse view, and the source commits first
(docs/invariants.md, I-10.1). Every key of a reverse pass is logged on the source again: a run that continues after a
rollback copies and compares those rows again (I-7.6).
"""

from __future__ import annotations

from psycopg import sql

from confiture import fingerprint
from confiture.capture import write_block
from confiture.capture.apply import (
    Followed,
    Follower,
    copy_existing_keys,
    images,
    keys_of,
    matches,
    own_key,
    temporary_table,
)
from confiture.capture.triggers import captured
from confiture.copy.run_table import RunTable
from confiture.copy.stream import pipe
from confiture.errors import Blocked
from confiture.journal import catch_up, runs
from confiture.journal import source as run_schema
from confiture.plan.model import Plan
from confiture.plan.projection import raw
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sql import template


def followed(context: Context, plan: Plan) -> tuple[Followed, ...]:
    """The tables whose changes are applied in reverse."""
    jobs = {t.number: RunTable(t, context.schema, side="target") for t in plan.reverse}
    return tuple(Followed(item, (jobs[item.number],)) for item in captured(plan.reverse, context.schema))


class ReverseFollower(Follower):
    """Catch-up from the target to the source."""

    sides = ("target", "source")

    def __init__(self, context: Context, plan: Plan) -> None:
        super().__init__(context, followed(context, plan))
        self.forward = {t.number: RunTable(t, context.schema) for t in plan.tables}
        self._lsn: str | None = None
        self._known = 0

    def _lock_logs(self, source: Transaction) -> None:
        """The logs of the target are not compacted, and the table of passes is on the source."""

    def _fence_source(self, source: Transaction) -> None:
        runs.fence(source, self.context.run_id, self.context.epoch)

    def _fence_target(self, target: Transaction) -> None:
        run_schema.fence(target, self.context.schema, self.context.epoch)

    def _check_source(self, source: Transaction) -> None:
        fingerprint.refuse_unreadable(source, self.context.schema, "target", [f.item.table for f in self.followed])

    def _check_capture(self, source: Transaction) -> None:
        """The capture of the target is restored with its journal."""

    def _check_target(self, target: Transaction) -> None:
        write_block.refuse_damaged(target, self.context.schema, "source")
        tables = [f.jobs[0].table.target for f in self.followed]
        fingerprint.refuse_changed(target, self.context.schema, "source", fingerprint.APPLIED, tables)

    def _begin(self, source: Transaction) -> None:
        self._lsn = _lsn(source)
        self._known = catch_up.last_reverse(source, self.context.run_id)

    def _copy_keys(self, source: Transaction, target: Transaction, f: Followed, job: RunTable) -> int:
        keys = super()._copy_keys(source, target, f, job)
        log = sql.Identifier(self.context.schema, f"log{job.table.number:04d}")
        values = [
            sql.SQL("{}::{}").format(sql.Identifier(f"k{i}"), raw(k.target_type))
            for i, k in enumerate(job.table.key, 1)
        ]
        again = template("catch_up.sql", "log_in_reverse").format(
            log=log, log_key=f.item.log_key, typed_key=sql.SQL(", ").join(values), keys=keys_of(job)
        )
        target.pg.execute(again)
        return keys

    def _add_gone_keys(self, source: Transaction, target: Transaction, job: RunTable) -> int:
        existing = copy_existing_keys(source, target, job)
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
        width = range(1, len(job.table.key) + 1)
        texts = sql.SQL(", ").join(sql.Identifier("t", f"confiture_image{i}") for i in width)
        gone: dict[str, sql.Composable] = {"moved": moved, "existing": existing, "matches": matches(job)}
        _create_key_texts(source, job)
        read = template("catch_up.sql", "read_gone_in_reverse").format(images=texts, **gone)
        pipe(target.pg, source.pg, read, sql.SQL("COPY {} FROM STDIN").format(_key_texts(job)))
        add = template("catch_up.sql", "add_gone_in_reverse").format(keys=keys_of(job), own_key=own_key(job), **gone)
        return target.pg.execute(add).rowcount

    def _record_changed(self, source: Transaction, target: Transaction, f: Followed, job: RunTable) -> None:
        _create_key_texts(source, job)
        texts = sql.SQL(", ").join(
            sql.SQL("{}::text").format(sql.Identifier(f"k{i}")) for i in range(1, len(job.table.key) + 1)
        )
        copy = template("catch_up.sql", "copy_keys_as_text").format(
            texts=_key_texts(job), key_texts=texts, changed=f.changed
        )
        source.pg.execute(copy)
        catch_up.record_changed(source, self.context.run_id, job.table.number, _key_texts(job), len(job.table.key))

    def _record_target_pass(self, target: Transaction, keys: int, rows: int) -> int:
        return _count(target, self.context.schema, self._known, self._lsn)

    def _record_source_pass(self, source: Transaction, number: int) -> None:
        catch_up.record_reverse(source, self.context.run_id, number)


def count_pass(target: Transaction, source: Transaction, schema: str, known: int) -> int:
    """Number a reverse pass without rows in a transaction of the source; the target's must record the number too.

    :param known: the last reverse pass that the target has.
    :raises Blocked: when one side has lost a pass.
    """
    return _count(source, schema, known, _lsn(target))


def _lsn(tx: Transaction) -> str | None:
    row = tx.pg.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    return None if row is None else str(row[0])


def _count(source: Transaction, schema: str, known: int, lsn: str | None) -> int:
    number = run_schema.count_reverse_pass(source, schema, known, lsn)
    if number is None:
        raise _restored(known)
    return number


def _key_texts(job: RunTable) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"confiture_key_texts{job.table.number:04d}")


def _create_key_texts(source: Transaction, job: RunTable) -> None:
    """Create the temporary table of the changed keys as text, in the database where the application writes."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} text").format(sql.Identifier(f"k{i}")) for i in range(1, len(job.table.key) + 1)
    )
    source.pg.execute(temporary_table(_key_texts(job), columns))


def refuse_behind(context: Context) -> None:
    """:raises Blocked: when either side has recorded a reverse pass that the other one has lost."""
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        passed, lsn = run_schema.last_reverse_pass(source, context.schema)
        known = catch_up.last_reverse(target, context.run_id)
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
