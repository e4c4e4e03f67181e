"""``migrate up``, ``down``, ``baseline`` and ``generate``: incremental migrations of one database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from confiture import config
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.commands.hooks import announced
from confiture.config import Database, redact
from confiture.errors import ConfitureError, Drained, Held, Refused, UsageError
from confiture.failpoints import failpoint
from confiture.incremental import files
from confiture.incremental.model import Direction, Entry, Migration
from confiture.incremental.standing import Judged, judged, to_apply, to_record, to_revert
from confiture.journal import ledger, runs, schema
from confiture.migrations.attempts import Patience
from confiture.migrations.outcomes import Done
from confiture.migrations.run import means_of, run_all
from confiture.migrations.work import Work
from confiture.postgres.session import Session
from confiture.runner import transitions
from confiture.runner.begin import begun, exclusively
from confiture.runner.context import Context
from confiture.runner.lease import hold, runner_sessions
from confiture.runner.progress import Progress
from confiture.schema_to_schema.setup import identity_in
from confiture.states import MIGRATIONS, SETUP

#: Errors that the operator has caused and reads: they end the run without the event of a failure.
_OF_THE_OPERATOR = (Refused, UsageError, Held, Drained)


@dataclass(frozen=True)
class Options:
    """The options of a command that runs migrations.

    :ivar to: the version to stop at; None for all, or for ``steps``.
    :ivar steps: the number of migrations that ``down`` reverts.
    :ivar out_of_order: whether a migration below an applied one is applied.
    :ivar in_doubt: ``again`` or ``done``, for a statement of which nothing shows whether it is done.
    """

    to: int | None = None
    steps: int = 1
    out_of_order: bool = False
    patience: Patience = field(default_factory=Patience)
    in_doubt: str | None = None


def options_of(
    to: int | None,
    lock_timeout: float | None,
    give_up_after: float | None,
    *,
    steps: int = 1,
    out_of_order: bool = False,
    in_doubt: str | None = None,
) -> Options:
    """The options as the command line has them.

    :param lock_timeout: seconds, as ``give_up_after``; None for that of :class:`Patience`.
    :raises UsageError: when the lock timeout is 0, with which the server waits without a limit.
    """
    usual = Patience()
    patience = Patience(
        usual.lock_timeout if lock_timeout is None else lock_timeout,
        usual.give_up_after if give_up_after is None else give_up_after,
    )
    if patience.lock_timeout < 0.001:
        why = "the server would wait without a limit, and the application behind it"
        raise UsageError("--lock-timeout is too short", why=why, fix="give at least 0.001 seconds")
    return Options(to, steps, out_of_order, patience, in_doubt)


@dataclass(frozen=True)
class Outcome:
    """The result of a command.

    :ivar run: the short name of the run; None when there was nothing to do.
    """

    target: Database
    run: str | None
    done: tuple[Done, ...]


def generate(project: Path, name: str) -> tuple[Path, Path]:
    """Write the two files of a new migration; their paths.

    :raises UsageError: when the name cannot be that of a file, or a file cannot be written.
    """
    return files.generate(project / files.FOLDER, name, datetime.now(UTC))


def read(target: Database, project: Path) -> tuple[Judged, ...]:
    """Every migration of the files and of the target's ledger, with its standing. Only reads.

    :raises Refused: when a newer version of Confiture wrote the journal.
    """
    found = files.read(project / files.FOLDER)
    with Session(target, "migrations") as session, session.transaction(read_only=True) as tx:
        schema.refuse_newer(schema.version(tx))
        return judged(found, ledger.entries(tx))


def up(where: Endpoints, options: Options, progress_: Progress) -> Outcome:
    """Apply the pending migrations in their order.

    Each migration, and each statement of one that is not a transaction, is durable when it has ended. After a crash
    the same command continues.

    :raises Refused: when the files and the ledger contradict each other, or the target has a live run of another kind.
    :raises DataFailure: a statement failed; what was done before is kept.
    :raises Held: when another command holds the run, or a lock could not be acquired in time.
    """
    return _changed(where, "migrate up", progress_, options, lambda every: works_up(every, options))


def down(where: Endpoints, options: Options, progress_: Progress) -> Outcome:
    """Revert the newest migrations, the newest first; the rest is as for :func:`up`."""
    return _changed(where, "migrate down", progress_, options, lambda every: works_down(every, options, progress_.say))


def works_up(every: Sequence[Judged], options: Options) -> list[Work]:
    """The migrations that ``up`` applies, with their statements.

    :raises Refused: as :func:`up`.
    :raises FaultyInput: with all faults of the files that would run.
    """
    chosen = to_apply(every, options.to, out_of_order=options.out_of_order)
    texts = files.statements([migration.up for migration in chosen])
    newest = max((each.version for each in every if each.entry is not None and each.entry.applied), default=0)
    return [
        Work(migration, Direction.UP, texts[migration.up.path], out_of_order=migration.version < newest)
        for migration in chosen
    ]


def works_down(every: Sequence[Judged], options: Options, say: Callable[[str], None] = lambda text: None) -> list[Work]:
    """The migrations that ``down`` reverts, with their statements; raises as :func:`works_up`."""
    chosen = to_revert(every, options.steps, options.to)
    texts = files.statements([script for _, script in chosen])
    for each, script in chosen:
        if each.entry is not None and each.entry.down_checksum not in (None, script.checksum):
            say(f"{script.path.name} was edited since {each.label} was applied")
    return [Work(each.migration, Direction.DOWN, texts[script.path]) for each, script in chosen if each.migration]


def _changed(
    where: Endpoints,
    command: str,
    progress_: Progress,
    options: Options,
    works: Callable[[Sequence[Judged]], list[Work]],
) -> Outcome:
    target = config.resolve(where.target, where.project)
    with translated(command):
        # A run that was killed behind its last migration, or before its first, is still live: it is completed.
        if not works(read(target, where.project)) and not _is_live(target):
            return Outcome(target, None, ())
        with _run(where, target, command, progress_) as context:
            # Again under the lease: another command may have run migrations since.
            chosen = works(_read_in(context, where.project))
            with means_of(context, options.patience, options.in_doubt) as means:
                done = run_all(means, chosen)
            return Outcome(target, context.facts.short, tuple(done))


def _is_live(target: Database) -> bool:
    with Session(target, "migrations") as session, session.transaction(read_only=True) as tx:
        have = schema.version(tx)
        if have is None or have < schema.newest():
            return False
        run = runs.live(tx)
        return run is not None and run.medium == MIGRATIONS


def _read_in(context: Context, project: Path) -> tuple[Judged, ...]:
    found = files.read(project / files.FOLDER)
    with context.target.transaction(read_only=True) as tx:
        return judged(found, ledger.entries(tx))


@contextmanager
def _run(where: Endpoints, target: Database, command: str, progress_: Progress) -> Iterator[Context]:
    """Hold a run of migrations for the block, which ends the run: completed, or aborted with the error.

    A process that is killed leaves the run live, and the next command of migrations takes it over.

    :raises Refused: when the target has a live run of another kind.
    :raises Held: when another command holds the run.
    """
    with exclusively(target) as session:
        # One database is both sides: nothing is written on the side of the source.
        run = begun(session, MIGRATIONS, target, identity_in(session), target, {"command": command})
    failpoint("migrations.begun")
    with (
        runner_sessions(target, target, run) as (src, tgt),
        hold(src, tgt, run, command, progress_, announced(where.hooks)) as context,
    ):
        if context.run().state == SETUP:
            transitions.advance(context, "begin")
        try:
            yield context
        except Exception as error:
            _abort(context, error)
            raise
        transitions.advance(context, "complete")


def _abort(context: Context, error: Exception) -> None:
    """End the run with the error as its reason, unless another runner has it or the target is lost."""
    if context.lost.is_set():
        return
    lines = error.lines()[:2] if isinstance(error, ConfitureError) else [str(error)]
    reason = redact(" ".join(": ".join(lines).split()))[:500]
    with suppress(psycopg.Error, ConfitureError):
        # Durable together: the state, the reason, and the event for those who are notified.
        with context.fenced("state.abort") as tx:
            run = runs.get(tx, context.run_id)
            if not isinstance(error, _OF_THE_OPERATOR):
                runs.note(tx, run.id, run.epoch, "failed", {"error": type(error).__name__})
            transitions.fire(tx, run, "abort", {"reason": reason})


def baseline(where: Endpoints, version: int, progress_: Progress) -> tuple[tuple[Migration, ...], tuple[Entry, ...]]:
    """Record every migration up to a version as applied without running it; those recorded, and those discarded.

    :raises Refused: when the ledger has a later migration, or an unfinished one.
    """
    target = config.resolve(where.target, where.project)
    with translated("migrate baseline"):
        found = to_record(read(target, where.project), version)
        if not any(found) and not _is_live(target):
            return found
        with _run(where, target, "migrate baseline", progress_) as context:
            recorded, discarded = to_record(_read_in(context, where.project), version)
            # Durable together: every row of the baseline, and its event.
            with context.fenced("baseline") as tx:
                ledger.record(tx, recorded, context.run_id)
                ledger.discard(tx, [entry.version for entry in discarded])
                detail = {"version": version, "recorded": len(recorded), "discarded": len(discarded)}
                runs.note(tx, context.run_id, context.epoch, "baseline", detail)
            return recorded, discarded
