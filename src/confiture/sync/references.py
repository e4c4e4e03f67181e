"""Missing references: fetch the rows that the target's rows refer to, until every foreign key holds.

The work is decided by the target's own rows: values of a foreign key without a parent row are looked up on the source
and inserted. Nothing is recorded, because a process that is killed finds the rest again. Each batch reads one snapshot
of the source, in which every foreign key of the source holds (docs/invariants.md, I-20.1).
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from confiture import catalog
from confiture.catalog_model import Catalog, Table
from confiture.compare.constraints import rows_of
from confiture.copy import inline
from confiture.copy.run_table import RunTable
from confiture.errors import DataFailure
from confiture.journal.model import DeferredForeignKey
from confiture.postgres.retry import retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.schema_to_schema.copy_chunk import naming_row
from confiture.sync.reference import Reference, Values, references
from confiture.sync.reference_graph import components
from confiture.sync.staged_rows import Staging
from confiture.sync.target_rows import count, missing, missing_of, remove_orphans, roots, still_missing
from confiture.types import TableRef, counted

#: Values that are looked up at once: by an index of the source, and where the source computes the value of each row.
BY_INDEX, BY_SCAN = 50_000, 200_000
#: Rows after which a batch is committed, though the last of them may refer to further rows.
BATCH_ROWS = 200_000
#: Rounds after which the source is taken to change faster than its rows are fetched.
ROUNDS_MOST = 100


@dataclass(frozen=True, slots=True)
class Filled:
    """The rows that were inserted and removed so that every foreign key holds.

    :ivar added: by target table: rows that others refer to.
    :ivar again: by target table: rows copied again because the source has changed them since.
    :ivar gone: by target table: rows removed because the source has removed them since they were copied.
    :ivar orphans: by target table: rows removed because the source has no parent for them either.
    """

    added: Counter[TableRef] = field(default_factory=Counter)
    again: Counter[TableRef] = field(default_factory=Counter)
    gone: Counter[TableRef] = field(default_factory=Counter)
    orphans: Counter[TableRef] = field(default_factory=Counter)

    def __add__(self, other: Filled) -> Filled:
        return Filled(
            self.added + other.added, self.again + other.again, self.gone + other.gone, self.orphans + other.orphans
        )

    @property
    def changes(self) -> int:
        """The number of rows that were inserted or removed."""
        return sum(self.added.values()) + self.removed

    @property
    def removed(self) -> int:
        """The number of rows that were removed, also of those that were copied again."""
        return sum(sum(rows.values()) for rows in (self.again, self.gone, self.orphans))


@dataclass(frozen=True, slots=True)
class Checked:
    """The rows of one foreign key, counted by a query of its own.

    :ivar rows: whose values are not NULL.
    :ivar violations: those without a parent. Only a key that is declared NOT VALID or NOT ENFORCED may have some.
    """

    key: DeferredForeignKey
    rows: int
    violations: int


@dataclass(frozen=True, slots=True)
class _Work:
    """The facts that every batch needs.

    :ivar identities: the filled columns that identify a row, by target table; no entry where there are none.
    :ivar within: the foreign keys whose two tables are in one cycle, or are one table.
    :ivar excluded: by target table, rows of the source that have no parent there: a row that refers to one has none
        either. It grows with each batch that is durable.
    """

    source: Catalog
    identities: Mapping[TableRef, Sequence[str]]
    within: Sequence[Reference]
    excluded: defaultdict[TableRef, set[Values]] = field(default_factory=lambda: defaultdict(set))


def fill(
    context: Context, jobs: Mapping[TableRef, RunTable], keys: Sequence[DeferredForeignKey], source: Catalog
) -> Filled:
    """Insert the rows that the target's rows refer to.

    Called between the build of the unique indexes and the addition of the foreign keys, while user triggers are off.
    A batch is durable with what its rows refer to within their cycle. A process that is killed repeats one batch.

    A row whose parent the source has removed since the row was copied is copied again. A row whose parent the source
    does not have in the same snapshot is removed, unless its key is declared NOT VALID or NOT ENFORCED.

    :param jobs: the planned tables, by target table, read inline. The conditions of their plans limit nothing here.
    :param keys: the foreign keys of the target.
    :param source: the catalog of the source.
    :raises DataFailure: when the parents of a key are not part of the sync, or do not fit into the target.
    """
    found = references(keys, jobs, roots(context), source)
    order = components(jobs, ((r.child.table.target, r.parent.table.target) for r in found if r.parent is not None))
    place = {table: n for n, tables in enumerate(order) for table in tables}
    inner = [r for r in found if r.parent and place[r.child.table.target] == place[r.parent.table.target]]
    work = _Work(source, _identities(context, jobs), inner)
    filled = Filled()
    for _ in range(ROUNDS_MOST):
        before = filled.removed
        for tables in order:
            of_component = [r for r in found if r.child.table.target in tables]
            filled += _fill_component(context, work, of_component)
        if filled.removed == before:
            return filled
    raise DataFailure(
        "the foreign keys of the target do not hold yet",
        why=f"the source removed rows that others refer to in each of {ROUNDS_MOST} rounds",
        fix="run the same command again, with --consistent to read one snapshot of the source",
    )


def check(context: Context, keys: Sequence[DeferredForeignKey]) -> tuple[Checked, ...]:
    """Count the rows of each foreign key and those without a parent, independently of the constraint's validation."""
    found = []
    for key in keys:
        context.checkpoint()
        with context.target.transaction(read_only=True) as tx:
            found.append(Checked(key, *count(tx, key)))
    return tuple(found)


def _identities(context: Context, jobs: Mapping[TableRef, RunTable]) -> dict[TableRef, Sequence[str]]:
    """The filled columns that identify a row of each table; no entry for a table without any."""
    with context.target.transaction(read_only=True) as tx:
        tables = catalog.read(tx).by_ref
    found = {ref: _identity(tables.get(ref), job) for ref, job in jobs.items()}
    return {ref: names for ref, names in found.items() if names}


def _identity(table: Table | None, job: RunTable) -> tuple[str, ...]:
    if job.table.key:
        return tuple(k.target for k in job.table.key)
    filled = {p.target for p in job.table.columns}
    for index in table.indexes if table is not None else ():
        null_free = table is not None and all(table.known_column(c).null_free for c in index.columns)
        if index.is_key and null_free and filled >= set(index.columns):
            return index.columns
    return ()


def _fill_component(context: Context, work: _Work, of_component: Sequence[Reference]) -> Filled:
    """Fill the keys of the tables of one cycle, or of one table: first those within the cycle, then the others."""
    inner = [r for r in of_component if r in work.within]
    filled = Filled()
    while inner:
        more = sum((_fill_key(context, work, r) for r in inner), Filled())
        filled += more
        if not more.changes:
            break
    return sum((_fill_key(context, work, r) for r in of_component if r not in work.within), filled)


def _fill_key(context: Context, work: _Work, reference: Reference) -> Filled:
    filled = Filled()
    size = BY_INDEX if all(c.stored for c in reference.compared) else BY_SCAN
    for values in missing(context, reference.key, size):
        context.checkpoint()
        if reference.parent is None:
            raise _no_parent(reference, values)
        with naming_row(context, reference.parent):
            batch = retry(partial(_fill_batch, context, work, reference, values))
        filled += batch.filled
        for table, rows in batch.excluded.items():
            work.excluded[table] |= rows
    for table, number in filled.added.items():
        context.progress.say(f"references: {counted(number, 'row')} of {table} that {reference} refers to")
    return filled


def _no_parent(reference: Reference, values: Sequence[Values]) -> DataFailure:
    key, first = reference.key, ", ".join(values[0])
    return DataFailure(
        f"rows of {key.table} refer to rows that {key.references} does not have",
        why=f"foreign key {key.name}, ({', '.join(key.columns)}) = ({first}); the sync does not fill them",
        fix=f"insert these rows in the target's DDL, or leave out {key.table}",
    )


def _fill_batch(context: Context, work: _Work, reference: Reference, values: Sequence[Values]) -> _Batch:
    with reading(context, _tables(work, reference)) as source:
        # Durable together: the parents of the values with what they refer to within their cycle, and the removal of
        # the rows without a parent (I-20.1).
        with context.fenced("references") as target:
            batch = _Batch(Staging(source, target, work.source, work.identities, work.excluded), target, work)
            batch.follow(reference, values)
    return batch


def _tables(work: _Work, reference: Reference) -> list[RunTable]:
    """The tables that a batch reads: both ends of the key, and those that they refer to within their cycles."""
    found: dict[TableRef, RunTable] = {}
    waiting = [reference.child, reference.parent]
    while waiting:
        job = waiting.pop()
        if job is not None and job.table.target not in found:
            found[job.table.target] = job
            waiting += (r.parent for r in work.within if r.child is job)
    return list(found.values())


@contextmanager
def reading(context: Context, jobs: Sequence[RunTable]) -> Iterator[Transaction]:
    """A read-only transaction on the source that reads several tables in one snapshot (I-2.1, I-19.1).

    :raises Blocked: when a table was changed since it was planned.
    """
    first, *others = jobs
    hows = [job.inline for job in jobs]
    assert hows[0] is not None
    path = next((how.path for how in hows if how is not None and how.path), ())
    how = replace(hows[0], path=path, also=tuple(job.table.source for job in others))
    with inline.reading(context.source, how, first.table.source, first.source) as tx:
        prepared = {how.prepare}
        for job, other in zip(others, hows[1:], strict=True):
            assert other is not None
            inline.refuse_changed(tx, other, job.table.source)
            if other.prepare is not None and other.prepare not in prepared:
                prepared.add(other.prepare)
                other.prepare(tx)
        yield tx


@dataclass
class _Batch:
    """The work of one pair of transactions.

    :ivar excluded: as in :class:`_Work`, of this batch.
    """

    staging: Staging
    target: Transaction
    work: _Work
    filled: Filled = field(default_factory=Filled)
    excluded: dict[TableRef, set[Values]] = field(default_factory=dict)

    def follow(self, reference: Reference, values: Sequence[Values]) -> None:
        """Insert the parents of the values, and what they refer to within their cycle."""
        waiting = deque([(reference, values)])
        while waiting and self.filled.changes < BATCH_ROWS:
            reference, values = waiting.popleft()
            # Another batch, or another key of this one, may have inserted a parent since.
            values, parent = still_missing(self.target, reference.key, values), reference.parent
            if parent is None or not values:
                continue
            staged = self.staging.fetch(parent, reference.compared, values)
            self.filled.added[parent.table.target] += staged
            waiting.extend(self._place(parent))
            if reference.is_enforced and (staged < len(values) or reference.key.period):
                waiting.extend(self._remove_orphans(reference, values))

    def _place(self, job: RunTable) -> list[tuple[Reference, Sequence[Values]]]:
        """Insert the staged rows of a table; what they refer to within their cycle and the target does not have."""
        self.staging.place(job)
        rows = self.staging.rows(job)
        found: list[tuple[Reference, Sequence[Values]]] = []
        for reference in self.work.within:
            if reference.child is job and reference.is_of_each_row:
                values = missing_of(self.target, reference.key, rows)
                if values:
                    found.append((reference, values))
        self.staging.clear(job)
        return found

    def _remove_orphans(
        self, reference: Reference, values: Sequence[Values]
    ) -> list[tuple[Reference, Sequence[Values]]]:
        """Remove the rows without a parent, and copy those again that the source has changed since they were copied.

        In one snapshot, the source has the parents of all its rows: a row that has the same value there has no parent
        on the source either.
        """
        job, key, filled = reference.child, reference.key, self.filled
        identity = self.work.identities.get(job.table.target, ())
        removed = remove_orphans(self.target, key, values, rows_of(self.target, key.table), identity)
        if not removed or not identity or not reference.is_of_each_row:
            filled.orphans[job.table.target] += len(removed)
            return []
        there = self.staging.fetch_again(job, removed)
        orphans = remove_orphans(self.target, key, values, self.staging.rows(job), identity)
        self.excluded.setdefault(job.table.target, set()).update(orphans)
        filled.orphans[job.table.target] += len(orphans)
        filled.again[job.table.target] += there - len(orphans)
        filled.gone[job.table.target] += len(removed) - there
        return self._place(job)
