"""The migrations of one command, in their order, each by the way that its file asks for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confiture.errors import Refused
from confiture.incremental.files import FIRST_LINE
from confiture.incremental.model import Direction
from confiture.journal import ledger
from confiture.migrations import sessions, statements, transactional
from confiture.migrations.attempts import Patience
from confiture.migrations.blocking import observing
from confiture.migrations.outcomes import Done
from confiture.migrations.work import Means, Work
from confiture.runner.context import Context
from confiture.types import counted


@contextmanager
def means_of(context: Context, patience: Patience, in_doubt: str | None) -> Iterator[Means]:
    """The means to run migrations, for the block.

    :param in_doubt: as in :class:`Means`.
    """
    with (
        observing(context.source, context.progress.say) as observer,
        context.beside("migration", user_sql=True, side="target") as session,
    ):
        yield Means(context, session, observer, patience, in_doubt)


def run_all(means: Means, works: Sequence[Work]) -> list[Done]:
    """Run migrations in their order. Each is durable when it is reported; after a crash the same command continues.

    :raises Refused: when the file of an unfinished migration has become a transaction.
    """
    done = []
    for work in works:
        means.context.checkpoint()
        began = time.monotonic()
        if work.script.transactional:
            _refuse_begun(means, work)
            sessions.discard(means.session)
            transactional.run(means, work)
        else:
            statements.run(means, work)
        seconds = time.monotonic() - began
        done.append(Done(work.version, work.migration.name, work.direction, len(work.statements), seconds))
        verb = "applied" if work.direction is Direction.UP else "reverted"
        count = counted(len(work.statements), "statement")
        means.context.progress.say(f"{work.migration.label}: {verb}, {count}, {seconds:.1f} s")
    return done


def _refuse_begun(means: Means, work: Work) -> None:
    with means.context.target.transaction(read_only=True) as tx:
        entry = ledger.entry(tx, work.version)
    if entry is not None and not entry.done and entry.direction is work.direction:
        raise Refused(
            f"{work.migration.label} is unfinished, and its file was edited",
            why=f"{work.script.path}:1:1: some of its statements are done, and now it would be one transaction",
            fix=f"restore its first line: {FIRST_LINE}",
        )
