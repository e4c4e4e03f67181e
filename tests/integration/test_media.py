"""Runs of each medium in one journal: they exclude each other, and those that only read their source leave it alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

import small_move
from confiture import config
from confiture.config import Database
from confiture.errors import Held, Refused
from confiture.journal import runs
from confiture.journal.model import Run
from confiture.runner import transitions
from confiture.runner.begin import begun, exclusively
from confiture.runner.context import Context
from confiture.runner.lease import hold, runner_sessions
from confiture.runner.progress import Silent
from confiture.schema_to_schema.setup import identity_of
from confiture.states import MIGRATIONS, SCHEMA_TO_SCHEMA, SYNC, Medium
from servers import Databases, TestDatabase
from small_move import SmallMove


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    """A project with a source. Nothing is set up."""
    return small_move.make(databases, tmp_path)


LIVE = {SYNC: "a sync", MIGRATIONS: "migrations"}


def reached(database: TestDatabase) -> Database:
    """The database as a command reaches it."""
    return config.resolve(database.conninfo, Path("/nowhere"))


def begin(medium: Medium, source: TestDatabase, target: TestDatabase) -> Run:
    """The live run of a medium in the target."""
    with exclusively(reached(target)) as session:
        return begun(session, medium, reached(source), identity_of(reached(source)), reached(target), {"n": 1})


def objects(database: TestDatabase) -> list[tuple[object, ...]]:
    """Everything in a database that Confiture could have created."""
    return database.rows(
        "SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_t%'"
        " UNION ALL SELECT 'relation', oid::regclass::text FROM pg_class WHERE oid >= 16384 ORDER BY 1, 2"
    )


@pytest.mark.parametrize("medium", [SYNC, MIGRATIONS])
def test_a_live_run_of_one_medium_excludes_a_command_of_another(move: SmallMove, medium: Medium) -> None:
    move.setup()
    move.run("abort", "--yes")
    run = begin(medium, move.source, move.target)
    err = move.run("setup", "--mapping", str(move.mapping), code=4).err
    assert f"has a live run of another kind: {LIVE[medium]}" in err
    other = SYNC if medium == MIGRATIONS else MIGRATIONS
    with pytest.raises(Refused, match=f"has a live run of another kind: {LIVE[medium]}"):
        begin(other, move.source, move.target)
    assert begin(medium, move.source, move.target) == run


def test_a_move_excludes_runs_of_the_other_media(move: SmallMove) -> None:
    move.setup()
    with pytest.raises(Refused, match="a move into another schema") as refused:
        begin(SYNC, move.source, move.target)
    assert "migrate schema-to-schema abort" in refused.value.fix


def test_a_sync_writes_nothing_to_its_source_when_it_is_taken_over(databases: Databases) -> None:
    source, target = databases.cloned(""), databases.cloned("")
    before = objects(source)
    run = begin(SYNC, source, target)
    with runner_sessions(reached(source), reached(target), run) as (src, tgt):
        with hold(src, tgt, run, "sync", Silent()) as first:
            target.sql("UPDATE confiture.runner SET heartbeat_at = heartbeat_at - interval '1 hour'")
            with runner_sessions(reached(source), reached(target), run) as (other, there):
                with hold(other, there, run, "sync", Silent()) as second:
                    assert second.epoch == first.epoch + 1
                    with second.fenced("state.begin") as tx:
                        now = runs.get(tx, run.id)
                        transitions.fire(tx, now, "abort")
            with pytest.raises((Held, psycopg.Error)), first.fenced("state.abort"):
                pass
            assert _writes_nothing(first)
    assert objects(source) == before


def _writes_nothing(context: Context) -> bool:
    with suppress(Held, psycopg.Error), context.fenced("test"):
        return False
    return True


def test_a_run_of_migrations_works_in_one_database(databases: Databases) -> None:
    database = databases.cloned("")
    run = begin(MIGRATIONS, database, database)
    for trigger in ("begin", "complete"):
        with (
            runner_sessions(reached(database), reached(database), run) as (observer, session),
            hold(observer, session, run, "up", Silent()) as context,
            context.fenced("test") as tx,
        ):
            transitions.fire(tx, runs.get(tx, run.id), trigger)
    assert database.rows("SELECT medium, state FROM confiture.run") == [("migrations", "cleaned")]
    assert begin(MIGRATIONS, database, database).id != run.id


def test_a_move_is_not_the_latest_run_of_another_medium(move: SmallMove) -> None:
    move.setup()
    move.run("abort", "--yes")
    begin(MIGRATIONS, move.target, move.target)
    with exclusively(reached(move.target)) as session, session.transaction(read_only=True) as tx:
        latest = {medium: runs.latest(tx, medium) for medium in (SCHEMA_TO_SCHEMA, SYNC, MIGRATIONS)}
    assert {medium: run and run.state for medium, run in latest.items()} == {
        SCHEMA_TO_SCHEMA: "aborted",
        SYNC: None,
        MIGRATIONS: "setup",
    }
