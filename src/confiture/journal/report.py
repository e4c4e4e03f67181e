"""Everything the journal can tell of its runs at one moment, for ``confiture status``.

Read in one read-only transaction that takes no row locks. Only the columns needed are named, and a
part that is not as this tool knows it (an older or a newer journal) is left out and said to be.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from psycopg import IsolationLevel, sql
from psycopg.rows import class_row

from confiture.config import Database
from confiture.db import Pg, Session
from confiture.sql import load
from confiture.types import Backend, TableRef

Json = dict[str, Any]
T = TypeVar("T")

TIMEOUT = "2s"

#: Rates are taken over this many seconds.
RATE_WINDOW_SECONDS = 600


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run's row, what status needs of it."""

    id: uuid.UUID
    state: str
    state_since: datetime
    started_at: datetime
    source_name: str
    source_conninfo: str
    source_identity: Json
    target_name: str
    plan_hash: str | None
    writes_served_by: str
    cutover_phase: str | None
    blocked_reason: str | None


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """Who runs the run, or ran it last; ``ended_at`` None for one that has not said it ended."""

    host: str
    pid: int
    command: str
    tool_version: str
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None
    ended_why: str | None
    target_backends: list[list[Any]]

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Its server processes in the target."""
        return tuple(Backend(pid, started) for pid, started in self.target_backends)


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that went wrong."""

    at: datetime
    kind: str
    detail: Json


@dataclass(frozen=True, slots=True)
class VerificationRow:
    """An attempt at verifying; ``verdict`` and ``ended_at`` None while it is not through."""

    started_at: datetime
    ended_at: datetime | None
    plan_hash: str
    purpose: str
    verdict: str | None
    differences: int


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table of the plan; ``estimate`` and ``rows_done`` in rows."""

    number: int
    source_schema: str
    source_table: str
    target_schema: str
    target_table: str
    estimate: int
    phase: str
    rows_done: int
    started_at: datetime | None
    finished_at: datetime | None
    key: list[Json] | None
    rollback_problem: str | None

    @property
    def source(self) -> TableRef:
        """Where its rows come from."""
        return TableRef(self.source_schema, self.source_table)

    @property
    def target(self) -> TableRef:
        """Where they go."""
        return TableRef(self.target_schema, self.target_table)


@dataclass(frozen=True, slots=True)
class ChunksRow:
    """A table's chunks in sum.

    :ivar recent_rows: done within the window of rates; ``recent_since`` when the first of them began.
    :ivar checkpoint: the upper key of the last chunk done; None when that is open-ended, or none is done.
    :ivar error: of the first chunk that failed.
    """

    table_number: int
    failed: int
    attempts: int
    done_at: datetime | None
    recent_rows: int
    recent_since: datetime | None
    checkpoint: list[str] | None
    error: Json | None


@dataclass(frozen=True, slots=True)
class LockRow:
    """A session that waits for a lock of ours (``waits_on_us``), or that ours wait for; seconds of waiting."""

    waits_on_us: bool
    pid: int
    user: str | None
    application: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """What the journal has on one run; ``unread`` names the parts that could not be read."""

    run: RunRow
    runner: RunnerRow | None = None
    restarts: int = 0
    restarted_at: datetime | None = None
    reached: tuple[tuple[str, datetime], ...] = ()
    events: tuple[EventRow, ...] = ()
    setup_steps: frozenset[str] = frozenset()
    paused_since: datetime | None = None
    verifications: tuple[VerificationRow, ...] = ()
    deferred: tuple[tuple[TableRef, int, int], ...] = ()
    tables: tuple[TableRow, ...] = ()
    chunks: tuple[ChunksRow, ...] = ()
    locks: tuple[LockRow, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Journal:
    """A target's journal at one moment of the target's clock.

    :ivar version: None when the database holds no journal.
    :ivar place: host, port and database, and the server's major version.
    :ivar records: the run that is not over first; all of them, or only that one.
    """

    now: datetime
    version: int | None
    place: str
    major: int
    records: tuple[Record, ...] = ()
    unread: tuple[str, ...] = ()


def read(database: Database, *, every: bool) -> Journal:
    """The target's runs: the one that is not over, else the last; with ``every`` all of them.

    :raises CannotConnect: when the target cannot be reached.
    :raises psycopg.Error: when not even the runs could be read in time.
    """
    with Session(database, "status") as session:
        with session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
            tx.pg.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(TIMEOUT)))
            return _journal(_Reader(tx.pg), every)


class _Reader:
    """Reads part after part; one that fails leaves the transaction usable and its name in ``unread``."""

    def __init__(self, pg: Pg) -> None:
        self.pg = pg
        self.unread: list[str] = []
        self._late = False

    def attempt(self, part: str, work: Callable[[], T], otherwise: T) -> T:
        """The part, or ``otherwise``. After one timeout nothing more is tried: the answer is to come soon."""
        try:
            if not self._late:
                with self.pg.transaction():
                    return work()
        except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
            pass  # another version's journal
        except psycopg.errors.QueryCanceled:
            self._late = True
        self.unread.append(part)
        return otherwise

    def rows(self, name: str, **parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a named statement."""
        return self.pg.execute(_statement(name), parameters).fetchall()

    def values(self, kind: type[T], name: str, **parameters: object) -> tuple[T, ...]:
        """The same, each as a ``kind``."""
        with self.pg.cursor(row_factory=class_row(kind)) as cursor:
            return tuple(cursor.execute(_statement(name), parameters).fetchall())


def _statement(name: str) -> bytes:
    return load("status.sql")[name]


def _journal(reader: _Reader, every: bool) -> Journal:
    ((there, now),) = reader.rows("journal")
    info = reader.pg.info
    place = f"{info.host or 'local'}:{info.port}/{info.dbname}"
    major = info.server_version // 10000
    if not there:
        return Journal(now, None, place, major)
    version = reader.attempt("version", lambda: reader.rows("version")[0][0], None) or 0
    found = reader.attempt("runs", lambda: reader.values(RunRow, "runs"), ())
    told = tuple(reader.unread)
    records = tuple(_record(reader, run, now) for run in (found if every else found[:1]))
    return Journal(now, version, place, major, records, told)


def _record(reader: _Reader, run: RunRow, now: datetime) -> Record:
    reader.unread.clear()

    def part(name: str, otherwise: T, kind: type[Any] | None = None, **more: object) -> T:
        def work() -> Any:
            parameters = {"run": run.id, **more}
            return reader.values(kind, name, **parameters) if kind else reader.rows(name, **parameters)

        return reader.attempt(name, work, otherwise)

    (runner,) = part("runner", (), RunnerRow) or (None,)
    ((restarts, restarted_at),) = part("restarts", [(0, None)])
    paused = [at for kind, at in part("request", []) if kind == "pause"]
    return Record(
        run=run,
        runner=runner,
        restarts=restarts,
        restarted_at=restarted_at,
        reached=tuple((state, at) for state, at in part("reached", [])),
        events=part("events", (), EventRow, now=now),
        setup_steps=frozenset(name for (name,) in part("steps", [])),
        paused_since=paused[0] if paused else None,
        verifications=part("verifications", (), VerificationRow),
        deferred=tuple((TableRef(s, t), count, back) for s, t, count, back in part("deferred", [])),
        tables=part("tables", (), TableRow),
        chunks=part("chunks", (), ChunksRow, now=now, window=RATE_WINDOW_SECONDS),
        locks=reader.attempt("locks", lambda: _locks(reader, runner), ()),
        unread=tuple(reader.unread),
    )


def _locks(reader: _Reader, runner: RunnerRow | None) -> tuple[LockRow, ...]:
    if runner is None or runner.ended_at is not None or not runner.target_backends:
        return ()
    pids, starts = [b.pid for b in runner.backends], [b.started for b in runner.backends]
    return reader.values(LockRow, "locks", pids=pids, starts=starts)
