"""``verify``: compare every row, before the cutover or after it, and repair on request."""

from __future__ import annotations

from pathlib import Path

from confiture.commands.cutover import refuse_unfinished
from confiture.commands.endpoints import Endpoints, next_command
from confiture.commands.holding import hold_run, unblock
from confiture.errors import DifferencesFound, Refused
from confiture.journal import verifications
from confiture.journal.model import Run
from confiture.plan import free_connections
from confiture.plan.model import Plan
from confiture.runner import transitions
from confiture.runner.capacity import cores
from confiture.runner.context import Context
from confiture.runner.progress import Progress
from confiture.schema_to_schema import jobs as many
from confiture.schema_to_schema import migrate, plan_store, reverse_verify, rollback, verify
from confiture.schema_to_schema import repair as repairs
from confiture.schema_to_schema.large_objects import CHECK
from confiture.schema_to_schema.outcomes import Result
from confiture.states import CUTOVER, MIGRATING, SETUP, VERIFIED
from confiture.types import counted, shell_word


def execute(
    where: Endpoints,
    report: Path | None,
    again: bool,
    progress_: Progress,
    *,
    repair: bool = False,
    jobs: int | None = None,
) -> tuple[Run, Result]:
    """Compare source and target; without a difference, change the state of the run to ``verified``.

    Each compared part is durable when it is done. A killed verification is continued by the same command.

    :param report: the file for the differences, one JSON object per line; None for no file.
    :param again: repeat a verification that has already passed.
    :param repair: copy the rows that differ again, and compare again.
    :param jobs: parts that are compared at the same time; None for one per core.
    :raises Refused: when the state has nothing to verify.
    """
    if report is not None:
        verify.refuse_unwritable(report)
    with hold_run(where, "verify", progress_) as (context, run):
        _refuse_to_verify(run, where)
        if repair:
            repairs.refuse_uncaptured(run)
        plan = migrate.stored_plan(context)
        if run.state == CUTOVER:
            return _verified_in_reverse(context, run, plan, where, report, repair=repair)
        # Only a comparison that finds nothing clears the reason that blocks the run, also after a kill just before.
        if run.state == VERIFIED and run.blocked_reason is None and not (again or repair):
            found = _last_result(context, plan)
            if found is not None:
                progress_.say("verified already; --again repeats the verification")
                return run, found
        plan_store.ensure_views(context, plan)
        jobs = many.permitted(context, jobs or cores(), free_connections.COMPARING)
        result = _compared(context, plan, jobs)
        if repair:
            result = _repaired(context, plan, result, jobs)
        if result.equal:
            unblock(context, "verify")
        after = context.run()
    if not result.equal and report is not None:
        verify.write_differences(report, result.differences)
    return after, result


def _verified_in_reverse(
    context: Context, run: Run, plan: Plan, where: Endpoints, report: Path | None, *, repair: bool
) -> tuple[Run, Result]:
    """After the cutover, compare every row of the source with the target, for a rollback."""
    refuse_unfinished(run, where)
    rollback.refuse_for_verify(context, plan)
    result = reverse_verify.compare(context, plan, repair=repair)
    if not result.equal and report is not None:
        verify.write_differences(report, result.differences)
    return run, result


def _compared(context: Context, plan: Plan, jobs: int) -> Result:
    """Verify once, and change the state of the run by the result."""
    run = context.run()
    result = verify.verify(context, plan, capture=bool(run.options.get("capture")), jobs=jobs)
    if result.equal and run.state == MIGRATING:
        transitions.advance(context, "verify", {"verification": result.number})
    elif not result.equal and run.state == VERIFIED:
        transitions.advance(context, "reopen", {"reason": "verification found differences"})
    return result


def _repaired(context: Context, plan: Plan, result: Result, jobs: int) -> Result:
    """Repair and compare until nothing differs, or only rows that an earlier round has repaired.

    Each round reports a limited number of differences, so one round may not suffice.
    """
    tried: frozenset[repairs.Wrong] = frozenset()
    while wrong := repairs.wrong_keys(plan, result.differences) - tried:
        repairs.repair(context, plan, wrong)
        tried |= wrong
        result = _compared(context, plan, jobs)
    return result


def _refuse_to_verify(run: Run, where: Endpoints) -> None:
    if run.state == SETUP:
        raise Refused(
            "there is nothing to verify",
            why=f"run {run.short} has not copied any row",
            fix=next_command("migrate", where),
        )
    if run.state == CUTOVER and not run.options.get("capture"):
        raise Refused("there is nothing to verify", why="the target is serving", fix=next_command("cleanup", where))


def _last_result(context: Context, plan: Plan) -> Result | None:
    with context.target.transaction(read_only=True) as tx:
        last = verifications.latest(tx, context.run_id, "verify")
    if last is None or verify.why_stale(context, plan, last) is not None:
        return None
    with context.target.transaction(read_only=True) as tx:
        units = verifications.units(tx, context.run_id, last.number)
    return verify.result_of(plan, last.number, units, ())


def differences_found(run: Run, result: Result, report: Path | None, where: Endpoints) -> DifferencesFound:
    """The error of a verification that found differences."""
    first = result.differences[0] if result.differences else None
    again = " ".join(f"--restart-table {shell_word(t.target)}" for t in result.tables if not t.equal)
    ways = []
    if run.options.get("capture"):
        ways.append(f"repair the rows: {next_command('verify --repair', where)}")
    if first is not None and first.check_name == CHECK:
        ways.append(f"copy the large objects again: {next_command('migrate', where)}")
    elif again:
        ways.append(f"copy what differs again: {next_command(f'migrate {again}', where)}")
    if not ways:
        ways.append(f"fix what differs, then compare again: {next_command('verify --again', where)}")
    return DifferencesFound(
        f"{counted(len(result.differences), 'difference')} between {run.source_name} and {run.target_name}",
        why=f"the first is {first.place}; {report} lists all" if first else "the counts differ",
        fix="\nor ".join(ways),
    )
