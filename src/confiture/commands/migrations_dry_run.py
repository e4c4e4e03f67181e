"""``migrate up`` and ``down`` with ``--dry-run``: the same statements, in a transaction that is rolled back."""

from __future__ import annotations

from confiture import config
from confiture.commands import migrations
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.commands.migrations import Options
from confiture.config import Database
from confiture.incremental.model import Direction
from confiture.incremental.standing import Standing
from confiture.journal import ledger
from confiture.migrations.blocking import observing
from confiture.migrations.dry_run import rehearse
from confiture.migrations.outcomes import Rehearsed
from confiture.postgres.session import Session
from confiture.runner.progress import Progress


def execute(where: Endpoints, way: str, options: Options, progress_: Progress) -> tuple[Database, list[Rehearsed]]:
    """Run the migrations that a real run would, and roll them back. Nothing is installed, and no run begins.

    :param way: ``up`` or ``down``.
    :raises Refused: as a real run does.
    :raises DataFailure: a statement fails as it would in a real run.
    :raises Held: a lock was not free within the lock timeout.
    """
    target, direction = config.resolve(where.target, where.project), Direction(way)
    with translated("the dry run"), Session(target, "observer") as other:
        every = migrations.read(target, where.project)
        works = migrations.works_up if direction is Direction.UP else migrations.works_down
        chosen = works(every, options)
        done = {}
        for each in every:
            if each.standing is Standing.UNFINISHED and each.entry is not None and each.entry.direction is direction:
                with other.transaction(read_only=True) as tx:
                    done[each.version] = sum(progress.done for progress in ledger.progress(tx, each.version))
        with (
            observing(other, progress_.say) as observer,
            Session(target, "dry run", user_sql=True) as session,
        ):
            return target, rehearse(session, observer, chosen, done, options.patience.lock_timeout)
