"""A sync's copy of chosen rows between two test databases, up to the foreign keys, without its command."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confiture import catalog, config
from confiture.catalog_model import Catalog
from confiture.copy import inline
from confiture.copy.inline import Inline
from confiture.copy.run_table import RunTable, reading
from confiture.copy.stream import Stream
from confiture.errors import ConfitureError
from confiture.journal.model import DeferredForeignKey
from confiture.mapping import Mapping as MappingFile
from confiture.plan.model import Options, TablePlan
from confiture.plan.planner import Planner
from confiture.runner import lease
from confiture.runner.begin import begun, exclusively
from confiture.runner.context import Context
from confiture.runner.progress import Silent
from confiture.schema_to_schema.deferred_objects import describe
from confiture.states import SYNC
from confiture.sync import references
from confiture.sync.choice import Choice, choice
from confiture.sync.references import Checked, Filled
from confiture.sync.selection import Selection, selections
from confiture.types import KeyRange, TableRef, double_quoted
from servers import TestDatabase


def resolved(database: TestDatabase) -> config.Database:
    return config.resolve(database.conninfo, config.find_project(Path("/")))


def catalog_of(context: Context, side: str) -> Catalog:
    session = context.source if side == "source" else context.target
    with session.transaction(read_only=True) as tx:
        return catalog.read(tx)


def without_journal(found: Catalog) -> Catalog:
    return replace(found, tables=tuple(t for t in found.tables if t.ref.schema != "confiture"))


@dataclass
class ChosenCopy:
    """A run that copies chosen rows.

    :ivar masks: SQL over the source row, by table and column.
    """

    context: Context
    choice: Choice
    source: Catalog
    keys: Sequence[DeferredForeignKey]
    jobs: Mapping[TableRef, RunTable]
    chosen: Mapping[TableRef, Selection]
    prepared: Prepared

    def copy(self, *tables: str) -> None:
        """Copy the chosen rows of these tables, or of all."""
        for job in self.jobs.values():
            if not tables or job.table.target.name in tables:
                with reading(self.context.source, job) as source, self.context.fenced("copy") as target:
                    Stream().move(source, target, job, KeyRange(None, None))

    def fill(self) -> Filled:
        return references.fill(self.context, self.jobs, self.keys, self.source)

    def check(self) -> tuple[Checked, ...]:
        return references.check(self.context, self.keys)


def _masked(plan: TablePlan, masks: Mapping[str, str]) -> TablePlan:
    columns = tuple(
        replace(c, expression=masks[f"{plan.target.name}.{c.target}"], source=None)
        if f"{plan.target.name}.{c.target}" in masks
        else c
        for c in plan.columns
    )
    masked_key = any(f"{plan.target.name}.{k.target}" in masks for k in plan.key)
    return replace(plan, columns=columns, key=() if masked_key else plan.key)


@contextmanager
def run_between(source: TestDatabase, target: TestDatabase) -> Iterator[Context]:
    """A run of a sync, held by this process. A run that was killed is continued."""
    here, there = resolved(source), resolved(target)
    with config_session(here) as identity, exclusively(there) as session:
        run = begun(session, SYNC, here, identity, there, {})
    with lease.runner_sessions(here, there, run) as sessions, lease.hold(*sessions, run, "sync", Silent()) as context:
        yield context


@contextmanager
def config_session(database: config.Database) -> Iterator[catalog.Identity]:
    from confiture.postgres.session import Session

    with Session(database, "test") as session, session.transaction(read_only=True) as tx:
        yield catalog.identity(tx)


def key_records(target: Catalog) -> list[DeferredForeignKey]:
    return [describe.foreign_key(k) for t in target.tables for k in t.foreign_keys]


def drop_keys(target: TestDatabase, keys: Sequence[DeferredForeignKey]) -> None:
    for key in keys:
        target.sql(f"ALTER TABLE {key.table} DROP CONSTRAINT IF EXISTS {double_quoted(key.name)}")


def add_keys(target: TestDatabase, keys: Sequence[DeferredForeignKey]) -> None:
    """Add the keys as declared: the server validates each."""
    for key in keys:
        target.sql(f"ALTER TABLE {key.table} ADD CONSTRAINT {double_quoted(key.name)} {key.definition}")


def of(
    context: Context,
    keys: Sequence[DeferredForeignKey],
    target: Catalog,
    *,
    masks: Mapping[str, str] | None = None,
    tables: Sequence[str] = (),
    where: Sequence[str] = (),
    percent: float | None = None,
) -> ChosenCopy:
    """The copy of chosen rows, planned.

    :param target: its catalog while it had its foreign keys.
    """
    here = catalog_of(context, "source")
    chosen, faults = choice(here, tables=tables, where=where, percent=percent)
    if faults:
        raise ConfitureError("\n".join(map(str, faults)))
    selected = selections(here, target, chosen)
    readable = replace(here, tables=tuple(replace(t, may_lock=True) for t in here.tables))
    planner = Planner(readable, target, MappingFile(), {}, Options(strategy="copy", capture=False))
    plan = planner.plan()
    assert not planner.faults, planner.faults
    jobs = {}
    for table in plan.tables:
        shaped = _masked(replace(table, where=selected[table.source].where), masks or {})
        with context.source.transaction(read_only=True) as tx:
            how = Inline(inline.shape(tx, table.source), also=selected[table.source].reads)
        jobs[table.target] = RunTable(shaped, context.schema, inline=how)
    options = {"masks": masks, "tables": tables, "where": where, "percent": percent}
    facts = context.facts
    prepared = Prepared(facts.source.conninfo, facts.target.conninfo, keys, target, options)
    return ChosenCopy(context, chosen, here, keys, jobs, selected, prepared)


@contextmanager
def chosen_copy(source: TestDatabase, target: TestDatabase, **options: object) -> Iterator[ChosenCopy]:
    """A run whose target has its tables and no foreign key any more."""
    with run_between(source, target) as context:
        there = without_journal(catalog_of(context, "target"))
        keys = key_records(there)
        drop_keys(target, keys)
        yield of(context, keys, there, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Prepared:
    """A run whose rows are copied, as a value that another process continues from."""

    source: str
    target: str
    keys: Sequence[DeferredForeignKey]
    catalog: Catalog
    options: Mapping[str, object]


@dataclass(frozen=True)
class _Place:
    conninfo: str


def fill_prepared(path: str, batch: int) -> None:
    """Fill the references of a run, in batches of so many values; the program of a process that is killed."""
    prepared: Prepared = pickle.loads(Path(path).read_bytes())
    references.BY_INDEX = batch
    places: Any = [_Place(prepared.source), _Place(prepared.target)]
    with run_between(*places) as context:
        of(context, prepared.keys, prepared.catalog, **prepared.options).fill()  # type: ignore[arg-type]


if __name__ == "__main__":
    fill_prepared(sys.argv[1], int(sys.argv[2]))
