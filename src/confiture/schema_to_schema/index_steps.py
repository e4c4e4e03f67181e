"""The steps that build indexes again: which come first, and which may run at the same time.

Several builds may run on one table, because CREATE INDEX locks it against writes only. The constraint of an index and
the marks that need a stronger lock are a step of their own, which waits until no build runs on the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import psycopg

from confiture.errors import DataFailure
from confiture.journal import deferred_objects
from confiture.journal.model import AnyDeferred, Deferred, DeferredIndex, DeferredStatus
from confiture.plan.index_builds import IndexBuilds
from confiture.postgres.failure import failure, name_role
from confiture.postgres.retry import retryable
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step
from confiture.schema_to_schema.deferred_objects import indexes, statements
from confiture.states import SYNC, Medium
from confiture.types import TableRef, shell_word


def steps(
    off: Sequence[DeferredIndex], sizes: Mapping[TableRef, int], builds: IndexBuilds, *, alone: bool = False
) -> list[Step]:
    """The steps that restore indexes: those of partitioned tables, which are empty, then the largest tables first.

    :param off: indexes that are off; those that are attached to one of them follow it.
    :param sizes: the bytes of their tables.
    :param builds: the memory and the workers of each build.
    :param alone: each has its table for itself, so that one step restores it.
    """
    parents = {item.parent for item in off}
    names: dict[TableRef | None, str] = {TableRef(item.table.schema, item.name): _name(item) for item in off}
    above = [d for d in indexes.roots_first(off) if TableRef(d.table.schema, d.name) in parents]
    others = [d for d in off if TableRef(d.table.schema, d.name) not in parents]
    others.sort(key=lambda d: -sizes.get(d.table, 0))
    return [step for item in (*above, *others) for step in _steps_of(item, names, builds, alone=alone)]


def _steps_of(
    item: DeferredIndex, names: Mapping[TableRef | None, str], builds: IndexBuilds, *, alone: bool
) -> Iterator[Step]:
    name, table = _name(item), frozenset((item.table,))
    above = frozenset(names[p] for p in (item.parent,) if p in names)
    attached = item.parent is not None
    locks = table | {_ATTACHED} if attached else table
    if item.statement is None or (alone and not attached):
        yield Step(name, act=_act(name, _restore, item, builds), after=above, locks=locks)
        return
    if not attached and not item.is_finished_apart:
        yield Step(name, act=_act(name, _restore, item, builds), after=above, shares=table)
        return
    build = f"build of {name}"
    yield Step(build, act=_act(name, _build, item, builds), after=above, shares=table)
    yield Step(name, act=_act(name, _finish, item, builds), after=above | {build}, locks=locks)


def _name(item: DeferredIndex) -> str:
    return f"{item.kind} {item.name} on {item.table}"


#: The name under which steps that attach an index to its parent's exclude each other. Two sessions that attach the last
#: index of one partitioned table and the last but one of the table above leave the index of the table above invalid.
_ATTACHED = TableRef("", "attached indexes")
_Act = Callable[[Context, Transaction, AnyDeferred], None]


def _act(
    name: str, act: _Act[DeferredIndex], item: DeferredIndex, builds: IndexBuilds
) -> Callable[[Context, Transaction], None]:
    def run(context: Context, tx: Transaction, item: DeferredIndex) -> None:
        statements.use_memory(tx, builds.memory, builds.workers)
        act(context, tx, item)

    return partial(explained, name, run, item)


def _build(context: Context, tx: Transaction, item: DeferredIndex) -> None:
    indexes.build(tx, item)


def _finish(context: Context, tx: Transaction, item: DeferredIndex) -> None:
    indexes.finish(tx, item)
    deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)


def _restore(context: Context, tx: Transaction, item: DeferredIndex) -> None:
    indexes.build(tx, item)
    _finish(context, tx, item)


def explained(name: str, act: _Act[AnyDeferred], item: AnyDeferred, context: Context, tx: Transaction) -> None:
    """Restore an object; an error names it, and the command that continues.

    :raises DataFailure: when rows conflict.
    """
    try:
        act(context, tx, item)
    except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation) as error:
        raise _not_unique(error, name, item, context.facts.medium) from error
    except psycopg.Error as error:
        if retryable(error):
            raise
        name_role(error, tx.pg.info.user)
        raise failure(error, f"restoring {name}") from error


def _not_unique(error: psycopg.Error, name: str, item: Deferred, medium: Medium) -> DataFailure:
    again = f"copy them again: migrate --restart-table {shell_word(str(item.table))}"
    if medium == SYNC:
        again = "run the command with --restart; or give the columns rules that keep different values different"
    return DataFailure(
        f"rows of {item.table} are not unique: {name} cannot be restored",
        why=f"{error.diag.message_primary}: {error.diag.message_detail}",
        fix=f"fix the rows on the source, then {again}",
    )
