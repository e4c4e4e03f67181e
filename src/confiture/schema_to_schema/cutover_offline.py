"""cutover for an application that is stopped: lock, verify again under the lock, switch.

The commit of the state is the point of no return. Before it, nothing has changed on the source. The source stays
locked against writes until that commit is durable (docs/invariants.md, I-8.7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from confiture import fingerprint
from confiture.capture import write_block
from confiture.errors import CutoverAborted, Refused
from confiture.journal import approvals, deferred_objects, runs, verifications
from confiture.journal import source as run_schema
from confiture.journal.model import DeferredForeignKey, DeferredStatus, Run
from confiture.naming import Naming
from confiture.plan.model import Plan
from confiture.postgres.session import Transaction
from confiture.runner import transitions
from confiture.runner.context import Context
from confiture.runner.resumable_steps import Step, run_steps
from confiture.schema_to_schema import sequences, verify, write_pause
from confiture.schema_to_schema.deferred_objects import foreign_keys, restore
from confiture.schema_to_schema.outcomes import Limits, Result
from confiture.schema_to_schema.stopwatch import Stopwatch
from confiture.schema_to_schema.table_lock import Tables, Work, locked
from confiture.states import SETUP, VERIFIED

#: Seconds. The application is stopped, so that the lock delays no session while every row is compared.
UNLIMITED = 10 * 24 * 3600.0


class Differs(CutoverAborted):
    """Source and target differ under the lock.

    :ivar result: what the verification found.
    """

    def __init__(self, result: Result) -> None:
        first = result.differences[0] if result.differences else None
        super().__init__(
            "cutover aborted: source and target differ",
            why=f"{len(result.differences)} under the lock, the first: {first.place}" if first else "the counts differ",
            fix="the source is still serving; stop its writers, fix the rows that differ, then run `verify --again`",
        )
        self.result = result


def refuse_unverified(run: Run) -> None:
    """:raises Refused: naming the command that comes first."""
    if run.state != VERIFIED:
        first = "migrate" if run.state == SETUP else "verify"
        raise Refused(
            f"the run is in state {run.state}, not verified",
            why="a cutover requires a verification without differences",
            fix=Naming(run.target_name).command(first),
        )


def cutover(context: Context, plan: Plan, limits: Limits) -> None:
    """Switch to the target. After a crash before the state is committed, the source is still serving.

    :raises Refused: when the verification is of another plan.
    :raises CutoverAborted: when the lock could not be acquired, or a row differs under it.
    """
    refuse_stale(context, plan)
    _as_declared(context)
    watch = Stopwatch()
    with context.beside("cutover") as locker:
        work = Work(
            lambda: None,
            lambda stack: None,
            lambda source, _, budget: _under_lock(context, source, plan, watch),
            watch=watch,
        )
        locked(context, locker, source_tables(context, plan), replace(limits, max_write_pause=UNLIMITED), work)


def refuse_stale(context: Context, plan: Plan) -> None:
    """:raises Refused: when the last verification is of another plan, or a server was restarted since."""
    with context.target.transaction(read_only=True) as tx:
        last = verifications.latest(tx, context.run_id, "verify")
        run = runs.get(tx, context.run_id)
    why = verify.why_stale(context, plan, last)
    if why is not None:
        raise Refused(
            "the verification is stale",
            why=why,
            fix=Naming(run.target_name).command("verify"),
        )


def refuse_closed(context: Context, plan: Plan, source: Transaction) -> None:
    """:raises CutoverAborted: when another run has closed the source: its target takes the writes (I-8.1)."""
    found = write_block.closed_by_another(source, context.schema, [t.source for t in plan.tables])
    if found is not None:
        raise CutoverAborted(
            f"cutover aborted: table {found[0]} of the source is closed by another run",
            why=f"the run of schema {found[1]} was cut over, so that its target takes the writes",
            fix="abort this run, or roll the other one back",
        )


def _as_declared(context: Context) -> None:
    """Foreign keys as declared, each in a resumable step of its own, before anything is locked."""
    with context.target.transaction(read_only=True) as tx:
        keys = deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey)
    steps = [Step(f"foreign key {k.name} on {k.table} as declared", act=_declare(k)) for k in keys]
    run_steps(context, "cutover", steps)


def _declare(item: DeferredForeignKey) -> Callable[[Context, Transaction], None]:
    def act(context: Context, tx: Transaction) -> None:
        both = fingerprint.roots_of(tx, item.tables)
        fingerprint.refuse_changed(tx, context.schema, "target", [fingerprint.FOREIGN_KEYS], list(both))
        foreign_keys.replace_interim(tx, item)
        fingerprint.record(tx, context.schema, both, [fingerprint.FOREIGN_KEYS])
        deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)

    return act


def source_tables(context: Context, plan: Plan) -> Tables:
    """The tables that a cutover locks."""
    return Tables(
        "source",
        tuple(dict.fromkeys(t.source for t in plan.tables)),
        verify.lock_list(plan),
        lambda tx: run_schema.fence(tx, context.schema, context.epoch),
    )


def _under_lock(context: Context, source: Transaction, plan: Plan, watch: Stopwatch) -> None:
    refuse_closed(context, plan, source)
    # Durable whether or not this commits: the values of the sequences, which the application has used since the copy.
    # Harmless while the source is serving.
    with context.fenced("cutover.sequences") as tx:
        sequences.set_all(context.source, tx, plan)
    watch.lap("set the sequences")
    result = verify.verify(context, plan, purpose="cutover")
    if not result.equal:
        raise Differs(result)
    watch.lap("compare every row")
    # Durable together: the suspended objects are restored, the run is in state cutover, and the pause is recorded.
    with context.fenced("cutover.switch") as tx:
        # A lost connection has released the lock. This statement then fails, and the source is still serving.
        source.pg.execute("SELECT 1")
        sequences.set_all(context.source, tx, plan)
        for item in deferred_objects.suspended(tx, context.run_id):
            restore(tx, item)
            deferred_objects.set_status(tx, context.run_id, item, DeferredStatus.BACK)
        run = runs.get(tx, context.run_id)
        approvals.refuse_unapproved(tx, run, always=context.facts.target.require_approval)
        transitions.fire(tx, run, "cutover", {"verification": result.number})
        runs.update(tx, context.run_id, writes_served_by="target")
        # Whatever blocked the run was checked again under the lock.
        runs.unblock(tx, context.run_id)
        watch.lap("switch")
        write_pause.note(tx, context, "cutover", watch, None)


def rehearse_declaring(context: Context) -> None:
    """Declare the foreign keys, and roll that back."""
    with context.target.rehearsal() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        for key in deferred_objects.of_kind(tx, context.run_id, DeferredForeignKey):
            if key.status is DeferredStatus.INTERIM:
                foreign_keys.replace_interim(tx, key)


def rehearse_switch(context: Context) -> None:
    """Apply the changes of the switch in the target, and roll them back."""
    with context.target.rehearsal() as tx:
        runs.fence(tx, context.run_id, context.epoch)
        for item in deferred_objects.suspended(tx, context.run_id):
            restore(tx, item)
