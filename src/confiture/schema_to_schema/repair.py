"""verify --repair: log each key that differs; the usual catch-up then applies the source's row (I-6.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from confiture.capture import apply
from confiture.capture.apply import Followed
from confiture.copy.run_table import RunTable
from confiture.errors import Refused
from confiture.journal import runs
from confiture.journal.model import Difference, Run
from confiture.naming import Naming
from confiture.plan.keyset import typed
from confiture.plan.model import Plan
from confiture.plan.projection import raw
from confiture.runner.context import Context
from confiture.schema_to_schema import follow
from confiture.schema_to_schema.large_objects import CHECK

#: A target table's name, and a key's values in the order of its walk key.
Wrong = tuple[str, tuple[str, ...]]


def refuse_uncaptured(run: Run) -> None:
    """:raises Refused: when the run has no logs."""
    if not run.options.get("capture"):
        raise Refused(
            "this run cannot be repaired key by key",
            why="it was set up with --no-capture, so that no catch-up can apply a key",
            fix="stop the application's writes and copy the table again: "
            + Naming(run.target_name).command("migrate --restart-table NAME"),
        )


def wrong_keys(plan: Plan, found: Sequence[Difference]) -> frozenset[Wrong]:
    """The distinct keys of rows that differ, and the large objects that do.

    The verification has them copied again. Foreign keys, constraints and sequences cannot be repaired.
    """
    keys = {str(t.target): [k.target for k in t.key] for t in plan.tables if t.key}
    large_objects: frozenset[Wrong] = frozenset((d.subject, ()) for d in found if d.check_name == CHECK)
    return large_objects | frozenset(
        (d.subject, tuple(d.key[name] for name in keys[d.subject]))
        for d in found
        if d.check_name == "rows" and d.key is not None and d.subject in keys
    )


def repair(context: Context, plan: Plan, wrong: frozenset[Wrong]) -> None:
    """Log the keys on the source and catch up: rows that the source lacks are deleted, the others applied again."""
    for followed, job in _jobs(context, plan):
        keys = sorted(key for subject, key in wrong if subject == str(job.table.target))
        if keys:
            _log(context, followed, job, keys)
            context.progress.say(f"repairing {len(keys):,} keys of {job.table.target}")
    follow.drain(context, plan, record_changed=True)


def _jobs(context: Context, plan: Plan) -> Iterator[tuple[Followed, RunTable]]:
    for followed in apply.followed(context, plan):
        for job in followed.jobs:
            yield followed, job


def _log(context: Context, followed: Followed, job: RunTable, keys: Sequence[tuple[str, ...]]) -> None:
    """Log the keys as a change on the source would. The target's text of a key is valid input of the source's type."""
    order = {k.source: i for i, k in enumerate(followed.item.key, 1)}
    names = sql.SQL(", ").join(sql.Identifier(f"k{order[k.source]}") for k in job.table.key)
    rows = sql.SQL(", ").join(
        sql.SQL("({})").format(
            sql.SQL(", ").join(
                sql.SQL("{}::{}").format(typed(text, wire), raw(k.source_type))
                for text, wire, k in zip(key, job.table.key_wires, job.table.key, strict=True)
            )
        )
        for key in keys
    )
    # Durable together: a log row for each key.
    with context.fenced_source("repair") as tx:
        tx.pg.execute(sql.SQL("INSERT INTO {} ({}) VALUES {}").format(followed.item.log, names, rows))
    # Durable: the note of the repair.
    with context.fenced("repair.noted") as tx:
        detail = {"table": str(job.table.target), "keys": len(keys)}
        runs.note(tx, context.run_id, context.epoch, "repair", detail)
