"""Catch-up: numbered passes copy the current rows of all logged keys.

One REPEATABLE READ transaction on the source deletes the log rows of its snapshot and reads the rows of their keys
through the table's view in the same snapshot. One transaction in the target deletes the rows of all those keys and
inserts the rows that exist. The target commits first: after a crash between the two commits the pass is repeated, which
is idempotent (docs/invariants.md, I-5.1).

A large pass over independent tables has helpers: further pairs of sessions that read the same snapshot and apply groups
of tables. They commit before the target's transaction that holds the number of the pass (I-5.18).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import psycopg
from psycopg import IsolationLevel, sql

from confiture import fingerprint
from confiture.capture import independent_groups, preserved_columns
from confiture.capture.helpers import Helpers, Sharing
from confiture.capture.triggers import Captured, captured, log_rows, pending
from confiture.copy import bad_text, large_row
from confiture.copy.chunks import key_is_null, refuse_null_keys
from confiture.copy.run_table import RunTable
from confiture.copy.stream import pipe
from confiture.errors import Blocked
from confiture.failpoints import failpoint
from confiture.journal import catch_up, runs
from confiture.journal import source as run_schema
from confiture.plan.keyset import KeyPart
from confiture.plan.model import KeyColumn, Plan
from confiture.plan.projection import Projected, raw, same_key
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.runner.context import Context
from confiture.sql import template
from confiture.types import Backend, TableRef

#: Joins of a few keys with a large table: the planner has no statistics of the keys.
_BY_INDEX = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off"
_BY_HASH = "SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; SET LOCAL enable_seqscan = on"
#: Number of keys from which ANALYZE and a hash join take half the time of a lookup per key.
MANY_KEYS = 10_000
#: Log rows outside of the largest group of tables from which a pass has helpers, and the least that a log row takes.
ROWS_TO_SHARE = 10_000
LOG_ROW_BYTES = 32
#: Holds the hash table of a million keys.
_MEMORY = "SET LOCAL work_mem = '64MB'"
#: Before every thread of a pass has applied its rows, and not at the COMMIT, which is never cancelled.
_CHECK_NOW = "SET CONSTRAINTS ALL IMMEDIATE"


@dataclass(frozen=True, slots=True)
class Followed:
    """A captured source table with every target table that is filled from it."""

    item: Captured
    jobs: tuple[RunTable, ...]

    @property
    def changed(self) -> sql.Identifier:
        """The changed keys of the pass, in the source session's temporary schema."""
        return sql.Identifier("pg_temp", f"confiture_changed{self.item.number:04d}")


@dataclass(frozen=True, slots=True)
class Pass:
    """The work of a pass; ``keys`` is 0 when the log was empty."""

    number: int
    keys: int
    rows: int


class Follower:
    """The two sessions of catch-up, with their temporary tables.

    ``source`` is a session to the database where the application writes, ``target`` to the one that passes keep up to
    date. In reverse these are the target and the source of the run.

    :param jobs: groups of tables that a large pass applies at the same time, each in a pair of sessions of its own.
    :cvar sides: the sides of the run that ``source`` and ``target`` are sessions to.
    """

    sides = ("source", "target")

    def __init__(self, context: Context, followed: Sequence[Followed], jobs: int = 1) -> None:
        self.context = context
        self.followed = tuple(followed)
        facts = context.facts
        self.source, self.target = (Session(facts.database(side), "catch-up", facts.short) for side in self.sides)
        self._helpers = Helpers(context, self.sides, jobs)
        #: Log rows by table, as they were before the pass; empty unless it may have helpers.
        self._logged: Mapping[int, int] = {}
        self._passed = 0
        self._prepared: set[int] = set()
        self._backends: tuple[Backend, Backend] | None = None
        #: The target's encoding, once a logged key had no form in it.
        self._holdable: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sessions; a pass after it opens them again."""
        for session in (self.source, self.target):
            session.close()
            self.context.part(session)
        self._helpers.close()

    def catch_up(self, *, record_changed: bool = False) -> Pass:
        """Run one pass over everything that the log holds now.

        :param record_changed: record the keys as changed, because a verification has compared their rows.
        :raises Blocked: when either side was changed, or the target is behind its source.
        """
        while True:
            self._helpers.settle(self.source, self.target)
            self._prepare(self.waiting())
            self._open_helpers()
            try:
                with fingerprint.naming_gone(self.source, self.context.schema, self.sides[0]):
                    applied = self._pass(record_changed)
            except psycopg.Error as error:
                if self._helpers.dismiss(error):
                    applied = None  # the pass is repeated without helpers
                elif isinstance(error, bad_text.BadText):
                    self._name_text(error)
                    applied = None  # a logged key: the pass is repeated without it
                else:
                    self._name_large_row(error)
                    raise
            if applied is not None:
                return applied

    def _open_helpers(self) -> None:
        """Before a large pass, because connecting takes time: open the sessions of its helpers."""
        if sum(self._logged.values()) - max(self._logged.values(), default=0) >= ROWS_TO_SHARE:
            self._helpers.open(len(self._logged) - 1)

    def _name_text(self, error: psycopg.Error) -> None:
        """Have the next pass discard logged keys that the other side cannot hold, if no row has such a text.

        :raises DataFailure: naming the row that has one.
        """
        for f in self.waiting():
            for job in f.jobs:
                joined = sql.SQL("JOIN {} c ON {}").format(f.item.log, _same_key(f, job))
                found = bad_text.look(self.source, self.target, job, joined=joined)
                if found is not None:
                    raise found.failure(job, error) from error
        if self._holdable is not None:
            raise error
        self._holdable = bad_text.encoding_of(self.target)

    def _name_large_row(self, error: psycopg.Error) -> None:
        """:raises DataFailure: naming the largest of the changed rows, if one is too large to be transferred."""
        if not large_row.is_too_large(error):
            return
        found: list[tuple[large_row.Largest, RunTable]] = []
        for followed, job in ((f, job) for f in self.waiting() for job in f.jobs):
            joined = sql.SQL("JOIN {} c ON {}").format(followed.item.log, _same_key(followed, job))
            row = large_row.look(self.source, job, joined=joined)
            found += [(row, job)] if row is not None else []
        if found:
            row, job = max(found, key=lambda pair: pair[0].size)
            raise row.failure(job.table, error) from error

    def waiting(self) -> list[Followed]:
        """The tables whose logs have rows now."""
        if not self.followed:
            return []
        with self.source.transaction(read_only=True) as tx:
            sizes = pending(tx, [f.item for f in self.followed])
            found = self._of(sizes)
            many = self._helpers.possible and self.source.budget is None and len(found) > 1
            many = many and sum(sizes.values()) >= ROWS_TO_SHARE * LOG_ROW_BYTES
            self._logged = log_rows(tx, [f.item for f in found]) if many else {}
        return found

    def _pending(self, tx: Transaction) -> list[Followed]:
        return self._of(pending(tx, [f.item for f in self.followed]))

    def _of(self, numbers: Mapping[int, int]) -> list[Followed]:
        return [f for f in self.followed if f.item.number in numbers]

    def _pass(self, changed_since_verified: bool) -> Pass | None:
        """One pass; None when its snapshot holds log rows of a table that is not prepared."""
        self.context.check_lease()
        if not self.followed:
            return Pass(0, 0, 0)
        # Durable together on this side: the deletion of the log rows and the number of the pass. The other side has
        # committed before.
        with yielding(self.source), self.source.transaction(isolation=IsolationLevel.REPEATABLE_READ) as source:
            self._lock_logs(source)
            # Lock, then snapshot: an older snapshot sees a rewritten table as empty.
            source.pg.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(self._tables()))
            self._fence_source(source)
            self._check_source(source)
            logged = self._pending(source)
            if not {f.item.number for f in logged} <= self._prepared:
                return None  # a pass applies every log row of its snapshot (docs/invariants.md, I-5.8)
            source.pg.execute(_MEMORY)
            if logged:
                self._begin(source)
            applied = self._apply(source, logged, changed_since_verified) if logged else Pass(0, 0, 0)
            if logged:
                self._record_source_pass(source, applied.number)
            failpoint("catchup.before_source_commit")
        failpoint("catchup.after_source_commit")
        return applied

    def _tables(self) -> sql.Composed:
        return sql.SQL(", ").join(f.item.source for f in self.followed)

    def _prepare(self, wanted: Sequence[Followed]) -> None:
        """Temporary tables in both sessions for the tables of a pass, again after a reconnect.

        Creating them takes a snapshot, so it is not done in the pass.
        """
        now = (self.source.backend, self.target.backend)
        if now != self._backends:
            with self.source.transaction(read_only=True) as tx:
                self._check_capture(tx)
            self._prepared, self._backends = set(), now
        lacking = [f for f in wanted if f.item.number not in self._prepared]
        if not lacking:
            return
        for side, session in zip(self.sides, (self.source, self.target), strict=True):
            self.context.join(session, side, session.backend)
        with self.source.transaction() as tx:
            _create_changed(tx, lacking)
        with self.target.transaction() as tx:
            _create_keys(tx, lacking)
        self._prepared |= {f.item.number for f in lacking}

    def _apply(self, source: Transaction, logged: Sequence[Followed], changed_since_verified: bool) -> Pass:
        # Durable together on this side: the deletions, the rows, the changed keys and the number of the pass. What
        # helpers have applied is durable before.
        with self.target.transaction() as target:
            self._begin_target(target)
            groups = self._groups(target, logged)
            if len(groups) > 1:
                keys, rows = self._share(source, target, groups, changed_since_verified)
            else:
                keys, rows = self._apply_tables(source, target, logged, changed_since_verified)
            number = self._record_target_pass(target, keys, rows)
            failpoint("catchup.before_target_commit")
        failpoint("catchup.after_target_commit")
        return Pass(number, keys, rows)

    def _begin_target(self, target: Transaction) -> None:
        self._fence_target(target)
        self._check_target(target)
        target.pg.execute("SET CONSTRAINTS ALL DEFERRED")
        target.pg.execute(_MEMORY)

    def _apply_tables(
        self,
        source: Transaction,
        target: Transaction,
        logged: Sequence[Followed],
        changed_since_verified: bool,
        take: str = "move_log",
    ) -> tuple[int, int]:
        """Apply the log rows of some tables; the numbers of keys and rows.

        :param take: the statement that takes the keys from the log.
        """
        for followed in logged:
            _take_log(source, followed, take)
            if self._holdable is not None:
                _discard_bad_text(source, followed, self._holdable)
        rows = 0
        keys: dict[int, int] = {}
        for f in logged:
            for job in f.jobs:
                keys[job.table.number] = self._copy_keys(source, target, f, job)
                _delete_rows(target, job, keys[job.table.number])
                if changed_since_verified:
                    self._record_changed(source, target, f, job)
        # Every deletion of the pass comes before its first insertion: rows may have exchanged unique values.
        for f in logged:
            for job in f.jobs:
                rows += _copy_rows(source, target, f, job, keys[job.table.number])
        return sum(keys.values()), rows

    # A pass with helpers ------------------------------------------------------------------------------------

    def _groups(self, target: Transaction, logged: Sequence[Followed]) -> list[list[Followed]]:
        """The tables of the pass in independent groups, the largest first; one group if the pass has no helpers."""
        if not self._helpers.pairs or not self._logged:
            return [list(logged)]
        groups = independent_groups.find(target, [(f, [j.table.target for j in f.jobs]) for f in logged])
        sizes = [sum(self._logged.get(f.item.number, 0) for f in group) for group in groups]
        if sum(sizes) - max(sizes) < ROWS_TO_SHARE:
            return [list(logged)]
        return [group for _, group in sorted(zip(sizes, groups, strict=True), key=lambda pair: -pair[0])]

    def _share(
        self, source: Transaction, target: Transaction, groups: Sequence[list[Followed]], changed_since_verified: bool
    ) -> tuple[int, int]:
        """Apply groups with helpers, which have committed at the end; the numbers of keys and rows."""
        (snapshot,) = only_row(source.pg.execute("SELECT pg_export_snapshot()"))
        counts: list[tuple[int, int]] = []
        act = partial(self._help, counts, sql.Literal(snapshot), changed_since_verified)
        with self._helpers.sharing(groups, act) as shared:
            taken: set[int] = set()
            while (group := shared.claim()) is not None:
                counts.append(self._apply_tables(source, target, group, changed_since_verified))
                taken |= {f.item.number for f in group}
            for item in (f.item for group in groups for f in group if f.item.number not in taken):
                # Exactly the log rows of this snapshot, which the helpers read.
                source.pg.execute(sql.SQL("DELETE FROM {}").format(item.log))
            target.pg.execute(_CHECK_NOW)
        return sum(keys for keys, _ in counts), sum(rows for _, rows in counts)

    def _help(
        self,
        counts: list[tuple[int, int]],
        snapshot: sql.Literal,
        changed_since_verified: bool,
        shared: Sharing[list[Followed]],
        source_session: Session,
        target_session: Session,
    ) -> None:
        """Apply groups of a pass in the sessions of a helper."""
        with source_session.transaction(isolation=IsolationLevel.REPEATABLE_READ) as source:
            source.pg.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
            source.pg.execute(_MEMORY)
            # Durable together: the deletions, the rows and the changed keys of the groups. The number of the pass
            # follows, so that after a crash the pass is repeated.
            with target_session.transaction() as target:
                self._begin_target(target)
                try:
                    while (group := shared.claim(partial(_lock_at_once, source))) is not None:
                        _create_changed(source, group)
                        _create_keys(target, group)
                        counts.append(self._apply_tables(source, target, group, changed_since_verified, "read_log"))
                except _NotLocked:
                    pass  # the application waits for the table: only the follower's own session has its lock
                target.pg.execute(_CHECK_NOW)
                shared.await_all()
                failpoint("catchup.helper.before_commit")
            failpoint("catchup.helper.after_commit")

    # The parts that differ by direction ---------------------------------------------------------------------

    def _lock_logs(self, source: Transaction) -> None:
        """Exclude compaction and every other session that applies the logs of the source."""
        lock_logs(source, self.context.schema)

    def _fence_source(self, source: Transaction) -> None:
        run_schema.fence(source, self.context.schema, self.context.epoch)

    def _begin(self, source: Transaction) -> None:
        """Read the number of the last pass that this side has recorded."""
        self._passed = _passed(source, self.context.schema)

    def _fence_target(self, target: Transaction) -> None:
        runs.fence(target, self.context.run_id, self.context.epoch)

    def _check_source(self, source: Transaction) -> None:
        """:raises Blocked: when DDL changed a table that rows are read from, or writes may be missing from its log."""
        schema, tables = self.context.schema, [f.item.table for f in self.followed]
        fingerprint.refuse_changed(source, schema, "source", (*fingerprint.CAPTURED, *fingerprint.DATABASE), tables)

    def _check_capture(self, source: Transaction) -> None:
        """Once for each connection, because a source that is restored ends it.

        :raises Blocked: when a table is not captured.
        """
        captured_tables = fingerprint.recorded(source, self.context.schema, fingerprint.CAPTURE)
        lacking = [f.item.table for f in self.followed if f.item.table not in captured_tables]
        if lacking:
            raise Blocked(
                f"table {lacking[0]} of the source is not captured",
                why="the source was restored to before its capture was installed; its changes are not logged",
                fix="abort this run and start a new one; the source is still serving",
                step="abort",
            )

    def _check_target(self, target: Transaction) -> None:
        """:raises Blocked: when DDL changed a table that rows are applied to, or added an object that acts on them."""
        tables = [job.table.target for f in self.followed for job in f.jobs]
        kinds = (*fingerprint.APPLIED, fingerprint.STORAGE, fingerprint.WRITE_BLOCK)
        fingerprint.refuse_changed(target, self.context.schema, "target", kinds, tables)

    def _add_gone_keys(self, source: Transaction, target: Transaction, job: RunTable) -> int:
        """Add the keys whose rows a TRUNCATE removed to those of the pass (I-5.11); the number added."""
        existing = copy_existing_keys(source, target, job)
        target.pg.execute(_BY_HASH)
        add = template("catch_up.sql", "add_gone_keys").format(
            keys=keys_of(job), own_key=own_key(job), table=job.target_rows, existing=existing, matches=matches(job)
        )
        return target.pg.execute(add).rowcount

    def _record_changed(self, source: Transaction, target: Transaction, f: Followed, job: RunTable) -> None:
        """Record the keys of the pass as changed since they were verified."""
        catch_up.record_changed(target, self.context.run_id, job.table.number, keys_of(job), len(job.table.key))

    def _record_target_pass(self, target: Transaction, keys: int, rows: int) -> int:
        """Record the pass in the transaction that holds its rows; its number.

        :raises Blocked: when one side has lost a pass that the other one has recorded.
        """
        number = self._passed + 1
        _refuse_lost(self._passed, catch_up.last(target, self.context.run_id))
        catch_up.advance(target, self.context.run_id, number, keys=keys, rows=rows)
        return number

    def _record_source_pass(self, source: Transaction, number: int) -> None:
        """Record the pass in the transaction that removes its log rows."""
        run_schema.set_last_pass(source, self.context.schema, number)

    def _copy_keys(self, source: Transaction, target: Transaction, f: Followed, job: RunTable) -> int:
        """Copy the changed keys to the target's temporary table; after a TRUNCATE also those whose rows are gone."""
        changed = template("catch_up.sql", "read_keys").format(cast_key=_cast(f.item.key, job), changed=f.changed)
        keys = pipe(source.pg, target.pg, changed, sql.SQL("COPY {} FROM STDIN").format(keys_of(job)))
        was_truncated = template("catch_up.sql", "was_truncated").format(changed=f.changed)
        truncated = source.pg.execute(was_truncated).fetchone()
        return keys if truncated is None else keys + self._add_gone_keys(source, target, job)


def lock_logs(tx: Transaction, schema: str) -> None:
    """Exclude every other session that applies or compacts the logs of the run until the transaction ends (I-5.7).

    :param tx: on the source. It waits for a session that holds the lock, in this process or in another one.
    """
    tx.pg.execute(template("catch_up.sql", "lock_passes").format(passes=run_schema.table(schema, "passes")))


def refuse_behind(context: Context) -> None:
    """:raises Blocked: when one side has lost a pass that the other one has recorded (I-5.5)."""
    with context.source.transaction(read_only=True) as source, context.target.transaction(read_only=True) as target:
        _refuse_lost(_passed(source, context.schema), catch_up.last(target, context.run_id))


def _passed(source: Transaction, schema: str) -> int:
    return run_schema.last_pass(source, schema)


def _refuse_lost(passed: int, applied: int) -> None:
    # The target may be one pass ahead: after a crash between the two commits that pass is repeated under its number.
    if applied in (passed, passed + 1):
        return
    side = "target" if applied < passed else "source"
    raise Blocked(
        f"the {side} has lost changes: the source has recorded pass {passed}, the target pass {applied}",
        why="it crashed with commits not on disk, was failed over, or was restored from a backup",
        fix="abort this run and start a new one; the source is still serving",
        step="abort",
    )


def followed(context: Context, plan: Plan) -> tuple[Followed, ...]:
    """The captured tables of the plan, with their target tables."""
    fed: dict[TableRef, list[RunTable]] = {}
    for table in plan.tables:
        if table.key:
            fed.setdefault(table.source, []).append(RunTable(table, context.schema))
    return tuple(Followed(item, tuple(fed[item.table])) for item in captured(plan.tables, context.schema))


class _NotLocked(Exception):
    """A lock is not available at once."""


def _lock_at_once(source: Transaction, group: Sequence[Followed]) -> None:
    """Lock the tables that a helper reads.

    To wait behind a statement of the application, which waits for the session that waits for the helper, would be a
    deadlock that no server detects.
    """
    tables = sql.SQL(", ").join(f.item.source for f in group)
    try:
        source.pg.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(tables))
    except psycopg.errors.LockNotAvailable as error:
        raise _NotLocked from error


def _create_changed(source: Transaction, tables: Sequence[Followed]) -> None:
    for f in tables:
        columns = _typed((f"k{i}", k.source_type) for i, k in enumerate(f.item.key, 1))
        source.pg.execute(temporary_table(f.changed, columns + sql.SQL(", truncated boolean")))


def _create_keys(target: Transaction, tables: Sequence[Followed]) -> None:
    for job in (job for f in tables for job in f.jobs):
        columns = _typed((f"k{i}", p.wire) for i, p in enumerate(images(job), 1))
        target.pg.execute(temporary_table(keys_of(job), columns))
        if job.table.kept:
            preserved_columns.prepare(target, job)


def _take_log(source: Transaction, f: Followed, take: str) -> None:
    """Take exactly the keys of the log rows of this snapshot into the temporary table of changed keys."""
    statement = template("catch_up.sql", take).format(log=f.item.log, log_key=f.item.log_key, changed=f.changed)
    count = source.pg.execute(statement).rowcount
    if count:
        _discard_null_keys(source, f)
    if count > MANY_KEYS:
        source.pg.execute(sql.SQL("ANALYZE {}").format(f.changed))


def _discard_null_keys(source: Transaction, f: Followed) -> None:
    """Discard logged keys that are NULL.

    :raises Refused: when the source has a row with such a key now.
    """
    null = key_is_null(KeyPart(f"k{i}", k.source_type) for i, k in enumerate(f.item.key, 1))
    discard = template("catch_up.sql", "discard_null_keys").format(changed=f.changed, key_is_null=null)
    if source.pg.execute(discard).rowcount:
        refuse_null_keys(source, f.jobs[0])


def _discard_bad_text(source: Transaction, f: Followed, encoding: str) -> None:
    """Discard logged keys that the other side cannot hold, so that it has no row with them, unless the snapshot has."""
    texts = [sql.Identifier(f"k{i}") for i, _ in enumerate(f.item.key, 1)]
    bad_text.prepare(source)
    for job in f.jobs:
        joined = sql.SQL("JOIN {} c ON {}").format(f.changed, _same_key(f, job))
        if bad_text.in_view(source, job, encoding, joined=joined) is not None:
            return  # a row with the key has appeared since: the pass fails, and names it
    holdable = sql.SQL(" AND ").join(bad_text.fits(text, encoding) for text in texts)
    source.pg.execute(template("bad_text.sql", "discard_keys").format(changed=f.changed, fits=holdable))


# The parts of a pass -------------------------------------------------------------------------------


def _typed(columns: Iterator[tuple[str, str]]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), raw(kind)) for name, kind in columns)


def temporary_table(name: sql.Identifier, columns: sql.Composed) -> sql.Composed:
    """The statement that creates a temporary table of a pass."""
    return template("catch_up.sql", "temporary_table").format(table=name, columns=columns)


def keys_of(job: RunTable) -> sql.Identifier:
    """The keys of the pass, in the target session's temporary schema."""
    return sql.Identifier("pg_temp", f"confiture_keys{job.table.number:04d}")


def images(job: RunTable) -> list[Projected]:
    """The projected column of each key column: the cast that every reader uses."""
    by_target = {p.target: p for p in job.table.columns}
    return [by_target[k.target] for k in job.table.key]


def own_key(job: RunTable) -> sql.Composed:
    """The key of a row ``t`` of the table that rows are written to, as it is copied."""
    return sql.SQL(", ").join(sql.SQL("t.{}::{}").format(sql.Identifier(p.target), raw(p.wire)) for p in images(job))


def _cast(key: Sequence[KeyColumn], job: RunTable) -> sql.Composed:
    """The logged key of the source table, cast as its view casts it."""
    order = {k.source: i for i, k in enumerate(key, 1)}
    items = [
        sql.SQL("{}::{}").format(sql.Identifier(f"k{order[k.source]}"), raw(p.wire))
        for k, p in zip(job.table.key, images(job), strict=True)
    ]
    return sql.SQL(", ").join(items)


def matches(job: RunTable) -> sql.Composed:
    """The condition that a row ``t`` of the target has the key ``k``."""
    tests = []
    for i, p in enumerate(images(job), 1):
        value = sql.SQL("k.{}").format(sql.Identifier(f"k{i}"))
        if p.cast_in:
            value = sql.SQL("{}::{}").format(value, raw(p.cast_in))
        tests.append(same_key(sql.Identifier("t", p.target), value, p))
    return sql.SQL(" AND ").join(tests)


def copy_existing_keys(source: Transaction, target: Transaction, job: RunTable) -> sql.Identifier:
    """Copy every key of the source's snapshot to a temporary table in the target; its name."""
    existing = sql.Identifier("pg_temp", f"confiture_existing{job.table.number:04d}")
    columns = _typed((f"k{i}", p.wire) for i, p in enumerate(images(job), 1))
    target.pg.execute(temporary_table(existing, columns))
    target.pg.execute(sql.SQL("DELETE FROM {}").format(existing))
    names = sql.SQL(", ").join(sql.Identifier(p.target) for p in images(job))
    query = template("catch_up.sql", "read_existing_keys").format(key=names, view=job.view)
    pipe(source.pg, target.pg, query, sql.SQL("COPY {} FROM STDIN").format(existing))
    return existing


def _delete_rows(target: Transaction, job: RunTable, keys: int) -> None:
    if keys > MANY_KEYS:
        target.pg.execute(sql.SQL("ANALYZE {}").format(keys_of(job)))
    target.pg.execute(_BY_HASH if keys > MANY_KEYS else _BY_INDEX)
    if job.table.kept:
        preserved_columns.delete(target, job, keys_of(job), matches(job))
        return
    delete = template("catch_up.sql", "delete_rows")
    target.pg.execute(delete.format(table=job.target_rows, keys=keys_of(job), matches=matches(job)))


def _same_key(f: Followed, job: RunTable) -> sql.Composed:
    """The condition that a row ``v`` of the view has the logged key ``c``."""
    order = {k.source: i for i, k in enumerate(f.item.key, 1)}
    return sql.SQL(" AND ").join(
        sql.SQL("v.{} = c.{}").format(sql.Identifier(part.name), sql.Identifier(f"k{order[k.source]}"))
        for part, k in zip(job.table.view_key, job.table.key, strict=True)
    )


def _copy_rows(source: Transaction, target: Transaction, f: Followed, job: RunTable, keys: int) -> int:
    """Copy the rows that exist under the changed keys, through the table's one view; the number of rows."""
    values = sql.SQL(", ").join(sql.SQL("v.{}").format(sql.Identifier(p.target)) for p in job.table.columns)
    source.pg.execute(_BY_HASH if keys > MANY_KEYS else _BY_INDEX)
    form = sql.SQL(job.table.format)
    query = template("catch_up.sql", "read_rows").format(
        columns=values, changed=f.changed, view=job.view, same_key=_same_key(f, job), format=form
    )
    into = preserved_columns.rows_of(job) if job.table.kept else job.target
    put = sql.SQL("COPY {} {} FROM STDIN (FORMAT {})").format(into, job.column_list, form)
    rows = pipe(source.pg, target.pg, query, put)
    if job.table.kept:
        preserved_columns.insert(target, job)
    return rows
