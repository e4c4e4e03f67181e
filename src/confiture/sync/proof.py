"""The proof that no clear value of a masked column is in the result, and what follows if one is.

For each masked column, the values of the result that also occur in the source are counted by salted hashes, which the
servers compute. The salt is random for each proof and is never stored (docs/invariants.md, I-19.5).
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from psycopg import ClientCursor, sql

from confiture.catalog_model import Catalog, Column
from confiture.copy.run_table import RunTable, reading
from confiture.copy.stream import pipe
from confiture.errors import DifferencesFound
from confiture.journal import chunks, runs, steps
from confiture.masking import leaks
from confiture.masking.model import Mask, Masks
from confiture.plan.keyset import predicate
from confiture.plan.model import Plan
from confiture.postgres.connection import Pg, only_row
from confiture.postgres.retry import retry
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.schema_to_schema import plan_store
from confiture.sql import load
from confiture.sync import store
from confiture.sync.selection import NONE
from confiture.types import Json, KeyRange, TableRef, counted, quoted

#: The phase and the name of the step in the journal, and the kind of the event that has the result.
PHASE, STEP, EVENT = "proof", "no clear value in the result", "leak proof"
#: The most hashes that are sent to the source, which looks for them in one scan. Of more values, the hashes of the
#: source are fetched, which takes one scan too.
SENT_MOST = 200_000

#: The version of PostgreSQL since which statistics can be removed.
_CLEARS_STATISTICS = 180000

_SQL = load("sync.sql")


@dataclass(frozen=True, slots=True)
class Proven:
    """The outcome for one column.

    :ivar values: distinct values of the result that are not NULL and that the rule does not produce from nothing.
    :ivar found: those of them that the source has too.
    :ivar limit: the most of them in percent that may be there by chance.
    """

    table: str
    column: str
    rule: str
    values: int
    found: int
    limit: float

    @property
    def leaks(self) -> bool:
        """Whether more values are clear ones than chance explains."""
        return self.found * 100 > self.limit * self.values


@dataclass(frozen=True, slots=True)
class Subject:
    """The masked columns to prove.

    :ivar source: the catalog of the source.
    """

    plan: Plan
    masks: Masks
    source: Catalog
    target: Catalog


def prove(context: Context, jobs: Mapping[TableRef, RunTable], subject: Subject) -> None:
    """Count the clear values of every masked column. The result is durable, and is not computed again.

    :param jobs: the tables of the sync, by target table.
    :raises DifferencesFound: when a column has more than chance explains. The tables of such columns are emptied.
    """
    with context.target.transaction(read_only=True) as tx:
        if steps.is_done(tx, context.run_id, PHASE, STEP):
            return
    found = tuple(_of_all(context, jobs, subject))
    leaking = [each for each in found if each.leaks]
    if leaking:
        retry(partial(_empty, context, subject.plan, found))
        raise _failed(leaking, subject.plan)
    # Durable together: the result, and that the proof is done.
    with context.fenced("proof.done") as tx:
        _note(context, tx, found)
        steps.mark(tx, context.run_id, PHASE, STEP, done=True)


def _of_all(context: Context, jobs: Mapping[TableRef, RunTable], subject: Subject) -> Iterator[Proven]:
    checked = [m for m in subject.masks.masks if m.leak_percent is not None and m.table in jobs]
    if checked:
        context.progress.say(f"proving that no clear value is in {counted(len(checked), 'masked column')}")
    for mask in checked:
        job, column = jobs[mask.table], subject.target.by_ref[mask.table].column(mask.column)
        if column is not None:
            columns = leaks.looked_up_in(mask, column, subject.source.by_ref[mask.table], subject.masks)
            context.checkpoint()
            context.progress.say(f"proof: {mask.table}.{quoted(mask.column)} ({mask.rule})")
            yield retry(partial(_of_column, context, job, mask, columns))


def _of_column(context: Context, job: RunTable, mask: Mask, columns: Sequence[Column]) -> Proven:
    """:param columns: the masked one in the target, and those of the source whose values it may have."""
    salt = secrets.token_bytes(leaks.SALT_BYTES)
    spans = _ranges(context, job)
    with context.target.rehearsal() as tx:
        tx.pg.execute(_SQL["result_table"])
        # The statement is composed here: a parameter's place in CREATE TABLE or COPY is not permitted.
        query = _composed(tx.pg, leaks.result_query(mask, columns[0]), {"salt": salt})
        values = tx.pg.execute(sql.SQL("INSERT INTO pg_temp.confiture_result {}").format(query)).rowcount
        if values > SENT_MOST:
            found = _fetched(context, tx, job, columns, salt, spans)
        else:
            found = _sent(context, tx, job, columns, salt) if values else 0
    return Proven(str(mask.table), mask.column, str(mask.rule), values, found, mask.leak_percent or 0.0)


def _sent(context: Context, tx: Transaction, job: RunTable, columns: Sequence[Column], salt: bytes) -> int:
    """How many of the hashes the source has; only this number leaves it."""
    hashes = [value for (value,) in tx.pg.execute("SELECT hash FROM pg_temp.confiture_result").fetchall()]
    with reading(context.source, job) as source:
        query = leaks.source_query(job.table.source, columns)
        return int(only_row(source.pg.execute(query, {"salt": salt, "hashes": hashes}))[0])


def _fetched(
    context: Context, tx: Transaction, job: RunTable, columns: Sequence[Column], salt: bytes, spans: Sequence[KeyRange]
) -> int:
    """The same, with the hashes of the source fetched range by range, so that no snapshot is held for long."""
    tx.pg.execute(_SQL["source_table"])
    into = sql.SQL("COPY pg_temp.confiture_source FROM STDIN (FORMAT binary)") + sql.Composed([])
    for span, column in itertools.product(spans, columns):
        with reading(context.source, job) as source:
            within = predicate(job.table.source_key, span) if job.table.key else sql.SQL("true") + sql.Composed([])
            values = _composed(source.pg, leaks.values_query(job.table.source, column, columns[0]), {"salt": salt})
            out = sql.SQL("COPY ({} AND {}) TO STDOUT (FORMAT binary)").format(values, within)
            pipe(source.pg, tx.pg, out, into)
    return int(only_row(tx.pg.execute(_SQL["occurring"]))[0])


def _ranges(context: Context, job: RunTable) -> Sequence[KeyRange]:
    """The ranges in which the table was copied; of a table that was not copied as a whole, one range."""
    with context.target.transaction(read_only=True) as tx:
        known = chunks.of_table(tx, context.run_id, job.table.number)
    return [c.range for c in known] or [KeyRange(None, None)]


def _composed(pg: Pg, query: sql.Composed, parameters: Mapping[str, object]) -> sql.SQL:
    return sql.SQL(ClientCursor(pg).mogrify(query, parameters))


def _note(context: Context, tx: Transaction, found: Sequence[Proven]) -> None:
    detail: Json = {"columns": [{**asdict(each), "leaks": each.leaks} for each in found]}
    runs.note(tx, context.run_id, context.epoch, EVENT, detail)


def _empty(context: Context, plan: Plan, found: Sequence[Proven]) -> None:
    """Empty the tables with clear values that the sync has filled, so that the values do not stay."""
    leaking = {each.table for each in found if each.leaks}
    tables = [t for t in plan.tables if str(t.target) in leaking and t.where != NONE]
    # Durable together: the emptied tables without a chunk, the result of the proof, and that it blocks the run.
    with context.fenced("proof.emptied") as tx:
        plan_store.truncate(tx, frozenset(t.target for t in tables))
        for table in tables:
            _clear_statistics(tx, table.target)
            store.reset(context, tx, table)
        steps.discard(tx, context.run_id, "references")
        _note(context, tx, found)
        reason = f"clear values are in {', '.join(f'{e.table}.{quoted(e.column)}' for e in found if e.leaks)}"
        runs.block(tx, context.run_id, context.epoch, reason, "sync --restart")


def _clear_statistics(tx: Transaction, table: TableRef) -> None:
    """Remove the values that an autovacuum has sampled; an older server keeps them until it samples rows again."""
    if tx.pg.info.server_version >= _CLEARS_STATISTICS:
        tx.pg.execute(_SQL["clear_statistics"], {"table": table.identifier.as_string()})


def _failed(leaking: Sequence[Proven], plan: Plan) -> DifferencesFound:
    lines = [
        f"{each.table}.{quoted(each.column)} ({each.rule}): {each.found:,} of {each.values:,} values are clear ones"
        f" of the source; the limit is {each.limit:g} %"
        for each in leaking
    ]
    filled = {str(t.target) for t in plan.tables if t.where != NONE}
    emptied = sorted({each.table for each in leaking} & filled)
    kept = sorted({each.table for each in leaking} - filled)
    lines += [f"the rows of {', '.join(emptied)} were removed"] if emptied else []
    lines += [f"{', '.join(kept)} keeps its rows, because the sync has only added to them"] if kept else []
    return DifferencesFound(
        f"clear values are in {counted(len(leaking), 'masked column')}",
        why="\n".join(lines),
        fix="change the rule in the mask file, or permit the column with --allow-unmasked, or such values of an SQL"
        " expression with leak_percent; then run the command with --restart",
    )
