"""The beginning of a run that writes nothing to its source: a sync, or migrations in place.

A database has one live run at most, whatever its medium (docs/invariants.md, I-7.10).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confiture import catalog
from confiture.catalog_model import Identity
from confiture.config import Database
from confiture.errors import Held, Refused
from confiture.failpoints import failpoint
from confiture.journal import runs, schema
from confiture.journal.model import Run
from confiture.naming import Naming
from confiture.postgres.session import Session, claiming
from confiture.states import MIGRATIONS, SCHEMA_TO_SCHEMA, SYNC, Medium
from confiture.types import Json, shell_word

#: Seconds to wait for another command that begins a run; one that is not frozen takes less.
EXCLUSIVE_SECONDS = 45

#: Key of the advisory lock: a number that no other program is likely to use in this database.
_INSTALL_LOCK = 0x636F6E66


def begun(
    session: Session, medium: Medium, source: Database, source_identity: Identity, target: Database, options: Json
) -> Run:
    """The live run of a medium in the target: one that is to be resumed, or a new one, which is durable then.

    The journal is installed or upgraded first. After a crash at any point the same call continues.

    :param session: to the target, of :func:`exclusively`.
    :param source: the database that the run reads; the target itself for migrations.
    :param options: of a new run. Those of a run that is resumed stay, and the caller compares them.
    :raises Refused: when the live run has another medium, or a newer version of Confiture wrote the journal.
    """
    schema.keep_up(session)
    # Durable together: the journal, if it was not installed, and the run.
    with session.transaction() as tx:
        claiming(tx)
        schema.install(tx)
        run = runs.live(tx)
        if run is None:
            run = runs.create(
                tx,
                run_id=uuid.uuid4(),
                medium=medium,
                source=(source.name, source.public, source_identity.as_json()),
                target=(target.name, catalog.identity(tx).as_json()),
                options=options,
            )
        refuse_other_medium(run, medium)
        failpoint("begin.before_commit")
    failpoint("begin.after_commit")
    return run


#: How a run of each medium is ended.
_CONTINUED_BY: dict[Medium, str] = {
    MIGRATIONS: "complete it: confiture migrate up --target {0}",
    SYNC: "complete it by the command that `confiture status --target {0}` prints,"
    " or end it: confiture sync --to {0} --abort",
}


def refuse_other_medium(run: Run, medium: Medium) -> None:
    """:raises Refused: when the target's live run has another medium than the one that a command is for."""
    if run.medium == medium:
        return
    if run.medium == SCHEMA_TO_SCHEMA:
        naming = Naming(run.target_name)
        fix = f"complete it, or abort it: {naming.command('abort')}"
    else:
        fix = _CONTINUED_BY[run.medium].format(shell_word(run.target_name))
    kinds = {SCHEMA_TO_SCHEMA: "a move into another schema", SYNC: "a sync", MIGRATIONS: "migrations"}
    raise Refused(
        f"{run.target_name} has a live run of another kind: {kinds[run.medium]}",
        why=f"run {run.short} is in state {run.state}; a database has one live run at a time",
        fix=fix,
    )


@contextmanager
def exclusively(target: Database) -> Iterator[Session]:
    """Let one command at a time begin a run in the target. A second one waits, and then finds what the first created.

    Yields the session that excludes the others.

    :raises Held: when the other command takes longer than EXCLUSIVE_SECONDS; it may be frozen.
    """
    with Session(target, "setup") as session:
        deadline = time.monotonic() + EXCLUSIVE_SECONDS
        while session.pg.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (_INSTALL_LOCK,)).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise _other_setup(session, target)
            time.sleep(0.1)
        yield session


def _other_setup(session: Session, target: Database) -> Held:
    row = session.pg.execute(
        "SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s AND database ="
        " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        (_INSTALL_LOCK,),
    ).fetchone()
    pid = row[0] if row is not None else "no longer running"
    return Held(
        f"another setup of {target.name} is running",
        why=f"it has been running for {EXCLUSIVE_SECONDS} s or more; its server process is {pid}",
        fix="wait for it; if it is frozen, run SELECT pg_terminate_backend(...) on the target's server",
    )
