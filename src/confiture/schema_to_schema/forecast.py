"""Read what a forecast is made from. Nothing is written on either side."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import dict_row

from confiture.config import Database
from confiture.journal import runs, schema
from confiture.journal.model import ForecastDetail, Run
from confiture.plan import forecast, index_builds
from confiture.plan.forecast import Earlier, Forecast, Given, Space, Wal, Width, Written
from confiture.postgres import free_disk
from confiture.postgres.connection import only_row
from confiture.postgres.free_disk import is_this_machine
from confiture.postgres.session import Session, Transaction
from confiture.runner import capacity
from confiture.schema_to_schema import jobs, timed_sample
from confiture.schema_to_schema.plan_store import Planned
from confiture.sql import load
from confiture.types import Json, TableRef, duration

#: The event that has a run's forecast.
RECORDED = "forecast recorded"
#: Seconds since the statistics were reset that give a rate which is no accident.
RESET_SECONDS_LEAST = 600
#: Seconds between two readings of the statistics, where they do not say since when they count. A session reports what
#: it has written once a second at most.
READINGS_APART = 2.0
#: For each statement of this module.
STATEMENT_TIMEOUT = "5s"


@dataclass(frozen=True, slots=True)
class _Count:
    """The rows that were written so far.

    :ivar since: when the server began to count; None if this is not known.
    """

    rows: int
    since: datetime | None
    now: datetime


def make(
    source: Database, there: Session, planned: Planned, *, sample: bool, wait: bool, target_disk: int | None
) -> Forecast:
    """The forecast of a run that is not set up yet.

    :param there: to the target; or to another database of its server, while the target does not exist.
    :param sample: take timed samples of the large tables of the source, which take a few seconds in all.
    :param wait: wait for a second reading of the statistics where it is not known since when they count.
    :param target_disk: free bytes of the disk of the target's server, as the operator gave them; None if not given.
    """
    oids = [planned.source.by_ref[t.source].oid for t in planned.plan.tables]
    with Session(source, "plan", user_sql=True) as here:
        widths = _widths(here, planned, oids)
        began = _written(here, oids)
        samples = timed_sample.take(here, planned.plan, planned.source) if sample else {}
        written = _rate(here, oids, began, wait=wait)
        hosts = (here.pg.info.host, there.pg.info.host)
    known = _has_journal(there)
    free, wal_apart = _free(there, target_disk)
    given = Given(
        plan=planned.plan,
        source=planned.source.by_ref,
        target=planned.target.by_ref,
        widths=widths,
        samples=samples,
        earlier=_earlier(there) if known else Earlier(),
        builds=index_builds.of_servers(planned.source.identity, planned.target.identity),
        wal=_wal(there),
        written=written,
        streams=jobs.streams(hosts, sum(t.estimate_bytes for t in planned.plan.tables)),
        comparing=capacity.cores(),
        shared=all(map(is_this_machine, hosts)),
        rehearsed=_rehearsed(there) if known else None,
        free=free,
        wal_apart=wal_apart,
        not_sampled=_not_sampled(planned, sample=sample),
    )
    return forecast.make(given, captured=planned.captured)


def _free(session: Session, given: int | None) -> tuple[Space | None, bool]:
    """The free space of the target's server, and whether its WAL is on another disk."""
    if given is not None:
        return Space(given, "--target-disk"), False
    with session.transaction(read_only=True) as tx:
        found = free_disk.of(tx)
    if found is not None:
        return Space(found.bytes, f"the disk of {found.place}"), found.wal_apart
    if session.database.disk_free is not None:
        return Space(session.database.disk_free, "disk_free of the environment"), False
    return None, False


def _not_sampled(planned: Planned, *, sample: bool) -> str:
    """Why there is no sample, if there is none."""
    if not sample:
        return "no sample was taken"
    large = any(t.estimate_bytes >= timed_sample.BYTES_LEAST for t in planned.plan.tables)
    return "no sample was taken in time" if large else "no table is large enough for a sample"


def _rows(session: Session, block: str, **parameters: object) -> list[Json]:
    """The rows of a statement in a transaction of its own, because the statistics of one do not change."""
    with session.transaction(read_only=True) as tx:
        return _rows_in(tx, block, **parameters)


def _rows_in(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    tx.pg.execute(f"SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'".encode())
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(load("forecast.sql")[block], parameters or None).fetchall()


def _widths(session: Session, planned: Planned, oids: Sequence[int]) -> dict[TableRef, dict[str, Width]]:
    """Of the columns of each source table; none where they cannot be read in time."""
    refs = {planned.source.by_ref[t.source].oid: t.source for t in planned.plan.tables}
    found: dict[TableRef, dict[str, Width]] = defaultdict(dict)
    with suppress(psycopg.Error):
        for row in _rows(session, "widths", tables=list(oids)):
            table, column = refs[row.pop("table_oid")], row.pop("name")
            found[table][column] = Width(**row)
    return found


# Writes of the application --------------------------------------------------------------------------


def _written(session: Session, oids: Sequence[int]) -> _Count | None:
    with suppress(psycopg.Error):
        (row,) = _rows(session, "written", tables=list(oids))
        return _Count(**row)
    return None


def _rate(session: Session, oids: Sequence[int], began: _Count | None, *, wait: bool) -> Written | None:
    """Rows written since the statistics were reset, else between two readings; None where neither is known."""
    if began is None:
        return None
    if began.since is not None:
        seconds = (began.now - began.since).total_seconds()
        if seconds >= RESET_SECONDS_LEAST:
            basis = f"the server's statistics since {began.since:%Y-%m-%d %H:%M}Z, {duration(seconds)}"
            return Written(began.rows, seconds, basis)
    if not wait:
        return None
    again = _written(session, oids)
    if again is not None and (short := READINGS_APART - (again.now - began.now).total_seconds()) > 0:
        time.sleep(short)
        again = _written(session, oids)
    if again is None:
        return None
    seconds = (again.now - began.now).total_seconds()
    return Written(max(0, again.rows - began.rows), seconds, f"two readings of the statistics, {seconds:.0f} s apart")


# The target's server --------------------------------------------------------------------------------


def _wal(session: Session) -> Wal:
    (row,) = _rows(session, "wal")
    present = None
    if row["visible"]:
        with suppress(psycopg.Error), session.transaction(read_only=True) as tx:
            (present,) = only_row(tx.pg.execute(load("forecast.sql")["wal_present"]))
    return Wal(
        max_size=row["max_size"],
        keep=row["keep"],
        slot_keep=row["slot_keep"] if row["limited"] else None,
        idle_slots=row["idle_slots"],
        archived=row["archived"],
        present=present,
    )


def _has_journal(session: Session) -> bool:
    with session.transaction(read_only=True) as tx:
        return schema.version(tx) is not None


def _earlier(session: Session) -> Earlier:
    """The rates of the runs that the target's journal has recorded."""
    with suppress(psycopg.Error):
        copied = {
            TableRef(r["source_schema"], r["source_table"]): float(r["seconds"]) for r in _rows(session, "copied")
        }
        compared = [float(r["seconds"]) for r in _rows(session, "compared")]
        return Earlier(copied, compared[0] if compared else None)
    return Earlier()


def _rehearsed(session: Session) -> float | None:
    """The write pause in seconds that the last complete rehearsal of the target's journal expected."""
    with suppress(psycopg.Error):
        return next((float(row["seconds"]) for row in _rows(session, "rehearsed")), None)
    return None


def record(tx: Transaction, run: Run, expected: Forecast) -> None:
    """Record the forecast of a new run, in the transaction that creates the run."""
    (size,) = only_row(tx.pg.execute("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"))
    detail: ForecastDetail = {
        "forecast": {**forecast.as_json(expected), "tables": []},
        "database_bytes": size,
    }
    runs.note(tx, run.id, run.epoch, RECORDED, detail)
