"""After the copy: indexes, constraints and foreign keys back, sequences set, views refreshed, analyzed.

Each is a journaled step of its own, so an index of an hour is not built twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import psycopg
from psycopg import sql

from confiture import fingerprint
from confiture.errors import DataFailure
from confiture.journal import deferred_objects, table_plans
from confiture.journal.deferred_objects import Deferred
from confiture.plan.planner import Plan
from confiture.plan.projection import raw
from confiture.postgres.failure import failure
from confiture.postgres.retry import retry, retryable
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import foreign_keys, sequences
from confiture.types import TableRef, shell_word

TargetAct = Callable[[Context, Transaction], None]
Act = Callable[[Context, Transaction, Deferred], None]


def roots_first(taken: Sequence[Deferred]) -> list[Deferred]:
    """Indexes and constraints of them, those of partitions behind what they are to be attached to."""
    indexes = [d for d in taken if d.kind in ("index", "constraint")]
    return sorted(indexes, key=lambda d: int((d.detail or {}).get("level", 0)))


def waits(plan: Plan, item: Deferred) -> bool:
    """Whether a foreign key is off until the cutover: a table at one of its ends stands still until then."""
    if item.kind != "foreign_key":
        return False
    ends = {item.table, TableRef(*(item.detail or {})["references"])}
    return any(t.recopied and t.target in ends for t in plan.tables)


def finish(context: Context, plan: Plan) -> None:
    """Bring back what the load took off, as it stands until the cutover."""
    with context.target.transaction(read_only=True) as tx:
        taken = deferred_objects.of_run(tx, context.run_id)
    keys = [d for d in taken if d.kind == "foreign_key" and not waits(plan, d)]
    retry(partial(_set_sequences, context, plan))
    run_steps(
        context,
        "finish",
        [
            *(_step(f"{d.kind} {d.name} on {d.table}", rebuild, d) for d in roots_first(taken) if _off(d)),
            *(_step(f"foreign key {d.name} on {d.table}", add_interim, d) for d in keys),
            *(_step(f"foreign key {d.name} on {d.table} validated", validate, d) for d in keys),
            *(Step(f"refresh of {v}", act=_refresh(v)) for v in plan.materialized_views),
            *(Step(f"statistics of {t.target}", act=_analyze(t.target, t.number)) for t in plan.tables),
            Step("fingerprint of the target", act=lambda c, tx: record_target(c, tx, plan)),
        ],
    )


def record_target(context: Context, tx: Transaction, plan: Plan) -> None:
    """Record what rows are applied to and what would act on them; its changes block from here on."""
    tables = fingerprint.oids(tx, [t.target for t in plan.tables])
    fingerprint.record(tx, context.schema, tables, fingerprint.APPLIED)
    fingerprint.forget(tx, context.schema, tables, (fingerprint.STORAGE,))


def _set_sequences(context: Context, plan: Plan) -> None:
    with context.fenced() as tx:  # every time: the source goes on drawing from them
        sequences.set_all(context.source, tx, plan)


def _table(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def _step(name: str, act: Act, item: Deferred) -> Step:
    def run(context: Context, tx: Transaction) -> None:
        try:
            act(context, tx, item)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation) as error:
            raise _not_unique(error, name, item) from error
        except psycopg.Error as error:
            if retryable(error):
                raise
            raise failure(error, f"bringing back {name}") from error

    return Step(name, act=run)


def _off(item: Deferred) -> bool:
    # After a table was copied again its indexes are still there, as are those that something needed all along.
    return item.status == "off"


def _not_unique(error: psycopg.Error, name: str, item: Deferred) -> DataFailure:
    return DataFailure(
        f"rows of {item.table} are not unique: {name} cannot be brought back",
        why=f"{error.diag.message_primary}: {error.diag.message_detail}",
        fix=f"mend the rows on the source, then copy it again: migrate --restart-table {shell_word(str(item.table))}",
    )


def rebuild(context: Context, tx: Transaction, item: Deferred) -> None:
    """An index or a unique, primary or exclusion constraint, attached to its parent, with its comments.

    On a partitioned table it is made on ONLY that one: its partitions' are items of their own, and keep
    the names and definitions they had.
    """
    detail, name = item.detail or {}, sql.Identifier(item.table.schema, item.name)
    if detail.get("tablespace"):
        tx.pg.execute(sql.SQL("SET LOCAL default_tablespace = {}").format(sql.Literal(detail["tablespace"])))
    if item.kind == "index":
        tx.pg.execute(raw(item.definition))
    else:
        statement = sql.SQL("ALTER TABLE ONLY {} ADD CONSTRAINT {} {}")
        tx.pg.execute(statement.format(_table(item.table), sql.Identifier(item.name), raw(item.definition)))
    for option, value in (o.split("=", 1) for o in detail.get("options", ())):
        tx.pg.execute(sql.SQL("ALTER INDEX {} SET ({} = {})").format(name, sql.Identifier(option), sql.Literal(value)))
    if detail.get("parent"):
        tx.pg.execute(sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(sql.Identifier(*detail["parent"]), name))
    comment_on(tx, item)
    if detail.get("index_comment"):
        tx.pg.execute(sql.SQL("COMMENT ON INDEX {} IS {}").format(name, sql.Literal(detail["index_comment"])))
    deferred_objects.set_status(tx, context.run_id, item, "back")


def comment_on(tx: Transaction, item: Deferred) -> None:
    """Give the object its comment back."""
    if item.comment is None:
        return
    text = sql.Literal(item.comment)
    if item.kind == "index":
        tx.pg.execute(sql.SQL("COMMENT ON INDEX {} IS {}").format(sql.Identifier(item.table.schema, item.name), text))
    else:
        foreign_keys.comment_on(tx, item)


def add_interim(context: Context, tx: Transaction, item: Deferred) -> None:
    """The foreign key as it stands until the cutover, not yet validated where that is possible."""
    detail = item.detail or {}
    definition, name = item.interim or item.definition, item.interim_name
    late = "" if item.interim is None or detail["partitioned"] else " NOT VALID"
    statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
    try:
        with tx.pg.transaction():
            tx.pg.execute(statement.format(_table(item.table), sql.Identifier(name), raw(definition + late)))
    except psycopg.errors.ForeignKeyViolation:
        return  # stays off: verify names the orphans
    if name == item.name:
        comment_on(tx, item)
    foreign_keys.free_names(tx, item)
    deferred_objects.set_status(tx, context.run_id, item, "interim")


def validate(context: Context, tx: Transaction, item: Deferred) -> None:
    """Check every row; a key with orphans stays unvalidated, and verify names them."""
    if (item.detail or {}).get("validated") is False:
        return  # declared NOT VALID: the new schema does not ask for it
    try:
        with tx.pg.transaction():
            foreign_keys.validate(tx, item)
    except (psycopg.errors.ForeignKeyViolation, psycopg.errors.UndefinedObject):
        return


def _refresh(view: TableRef) -> TargetAct:
    def act(context: Context, tx: Transaction) -> None:
        tx.pg.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(_table(view)))

    return act


def _analyze(table: TableRef, number: int) -> TargetAct:
    def act(context: Context, tx: Transaction) -> None:
        tx.pg.execute(sql.SQL("ANALYZE {}").format(_table(table)))
        table_plans.update(tx, context.run_id, number, phase="finished", finished_at=_now(tx))

    return act


def _now(tx: Transaction) -> object:
    row = tx.pg.execute("SELECT clock_timestamp()").fetchone()
    return None if row is None else row[0]
