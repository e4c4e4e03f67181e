"""``cutover --reads-first`` and ``--reads-back``: redirect reads to the target before the writes, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.commands.endpoints import Endpoints
from confiture.commands.hooks import READS, SWITCH, Hook, environment_of_hook, run_awaited
from confiture.config import Database
from confiture.errors import UsageError
from confiture.journal.model import Run
from confiture.schema_to_schema.outcomes import ReadLimits


@dataclass(frozen=True, slots=True)
class Reads:
    """The options of a cutover that redirect reads.

    :ivar limits: of ``--reads-first``; None for ``--reads-back``.
    :ivar keep: whether the command applies changes afterwards.
    """

    limits: ReadLimits | None
    keep: bool = True


def wanted(
    first: bool, back: bool, max_staleness: float | None, accept_stale: bool, no_follow: bool, give_up_after: float
) -> Reads | None:
    """The reads that the options ask for; None for a cutover.

    :raises UsageError: when they do not fit together.
    """
    if first and back:
        raise UsageError(
            "--reads-first and --reads-back exclude each other", why="both were given", fix="give one of them"
        )
    if first:
        limits = ReadLimits(give_up_after=give_up_after, accept_stale=accept_stale)
        if max_staleness is not None:
            limits = ReadLimits(max_staleness, give_up_after, accept_stale)
        return Reads(limits, not no_follow)
    given = {"--max-staleness": max_staleness is not None, "--accept-stale": accept_stale, "--no-follow": no_follow}
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise UsageError(
            f"a cutover has no option {' and '.join(names)} without --reads-first",
            why="the option concerns reads of the target before the cutover",
            fix="add --reads-first, or omit the option",
        )
    return Reads(None) if back else None


def refuse_others(given: Mapping[str, object]) -> None:
    """:raises UsageError: when an option of the switch of writes was given too."""
    names = [name for name, value in given.items() if value]
    if names:
        raise UsageError(
            f"{' and '.join(names)} cannot be combined with --reads-first or --reads-back",
            why="these options are of the switch of writes",
            fix="redirect the readers with a hook, or by hand",
        )


def redirect(where: Endpoints, asked: Reads, format: options.Output) -> None:
    """Redirect the reads, and print where they go."""
    if any(hook.event == SWITCH for hook in where.hooks):
        raise UsageError(
            "a hook of the event switch would not run",
            why="--reads-first and --reads-back switch no writes",
            fix="give --hook reads='COMMAND'",
        )
    by = partial(_by_hooks, where.hooks)
    with progress.Reporter() as reporter:
        if asked.limits is not None:
            run, database, place = commands.reads.first(where, asked.limits, by, reporter, keep=asked.keep)
        else:
            run, database, place = commands.reads.back(where, by, reporter)
    said = "reads go to the target; writes stay on the source" if asked.limits else "reads go to the source"
    keep = ("Keep the target up to date for its readers: run follow.",) if asked.limits else ()
    step = "follow" if asked.limits else None
    terminal.show(
        where,
        run,
        said,
        format,
        f"Point the readers at: {place}",
        *keep,
        step=step,
        application_url=database.application_url,
    )


def back_by_hooks(where: Endpoints, reporter: progress.Reporter) -> bool:
    """Redirect reads back to the source with the hooks for that; False when there are none."""
    if not any(hook.event == READS for hook in where.hooks):
        return False
    commands.reads.back(where, partial(_by_hooks, where.hooks), reporter)
    return True


def after_rollback(where: Endpoints, run: Run) -> tuple[str, ...]:
    """Redirect readers back that a rollback has left on the target; a line about them when no hook does this."""
    if run.reads_phase is None:
        return ()
    with progress.Reporter() as reporter:
        done = back_by_hooks(where, reporter)
    return () if done else ("Reads may still go to the target: run cutover --reads-back.",)


def _by_hooks(hooks: Sequence[Hook], run: Run, old: Database, new: Database) -> None:
    run_awaited(hooks, READS, environment_of_hook(run.short, old, new), "reads may go to either side")
