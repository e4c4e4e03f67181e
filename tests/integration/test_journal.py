"""The tables of the journal enforce these rules themselves, whatever the program does."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import small_move
from confiture import config
from confiture.errors import Held, Refused
from confiture.journal import chunks, leases, runs, schema, table_plans
from confiture.journal.model import Chunk, Run
from confiture.postgres import embedded
from confiture.postgres.session import Session, Transaction
from confiture.runner import transitions
from confiture.sql import ControlMigration, control_migrations
from confiture.states import EDGES, SETUP, STATES
from confiture.types import KeyRange, TableRef
from forked import Forks
from servers import Databases, TestDatabase
from small_move import SmallMove

SOMEWHERE = ("old", "postgresql://host/old", {"system_identifier": 1})
PLAN = "plan = '{}', plan_hash = 'h'"


def session_of(database: TestDatabase) -> Session:
    """A session as the tool opens it."""
    return Session(config.resolve(database.conninfo, Path("/nowhere")), "test")


@pytest.fixture
def journal(database: TestDatabase) -> Iterator[Session]:
    """A session on a database with the control schema in it."""
    with session_of(database) as session:
        with session.transaction() as tx:
            schema.install(tx)
        yield session


def begin(session: Session) -> Run:
    """Insert a new run."""
    with session.transaction() as tx:
        return runs.create(tx, run_id=uuid.uuid4(), source=SOMEWHERE, target=("new", {}), options={})


@pytest.fixture
def run(journal: Session) -> Run:
    """A run in state ``setup``."""
    return begin(journal)


def add_table(tx: Transaction, run: Run) -> None:
    """Insert one planned table, ``public.t``, with one chunk."""
    ref = TableRef("public", "t")
    table_plans.add(tx, run.id, 1, target=ref, source=ref, plan={}, estimate=0, fingerprint=None)
    chunks.add(tx, run.id, 1, [KeyRange(None, None)], first=1, sealed=True)


def refused(session: Session, statement: str, message: str) -> None:
    """Assert that the transaction of the statement fails with this message."""
    with pytest.raises(psycopg.Error, match=message), session.transaction() as tx:
        tx.pg.execute(statement.encode())


# Transitions ---------------------------------------------------------------------------------------


def test_the_states_that_the_table_accepts_are_those_of_the_program(database: TestDatabase, journal: Session) -> None:
    check = database.value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'confiture.run'::regclass AND conname = 'run_state_check'"
    )
    assert tuple(re.findall(r"'(\w+)'::text", check)) == STATES


def test_the_edges_in_the_table_are_those_of_the_program(database: TestDatabase, journal: Session) -> None:
    edges = database.rows("SELECT from_state, to_state, fired_by FROM confiture.state_edge")
    assert sorted(edges) == sorted((e.source, e.target, e.trigger) for e in EDGES)


def test_a_state_changed_without_its_event_does_not_commit(journal: Session, run: Run) -> None:
    refused(journal, f"UPDATE confiture.run SET state = 'migrating', {PLAN}", "may not go from setup to migrating")


def test_event_of_an_earlier_transaction_does_not_permit_a_transition(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        runs.note(tx, run.id, run.epoch, "begin", from_state="setup", to_state="migrating")
    refused(journal, f"UPDATE confiture.run SET state = 'migrating', {PLAN}", "may not go from setup to migrating")


def test_an_event_of_another_run_does_not_permit_a_transition(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        transitions.fire(tx, run, "abort")
    other = begin(journal)
    statement = f"""
        INSERT INTO confiture.event (run_id, epoch, kind, actor, from_state, to_state)
            VALUES ('{run.id}', 1, 'begin', 'x', 'setup', 'migrating');
        UPDATE confiture.run SET state = 'migrating', {PLAN} WHERE id = '{other.id}'
    """
    refused(journal, statement, "may not go from setup to migrating")


def test_an_event_without_an_edge_is_refused(journal: Session, run: Run) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation), journal.transaction() as tx:
        tx.pg.execute(
            "INSERT INTO confiture.event (run_id, epoch, kind, actor, from_state, to_state)"
            " VALUES (%s, 1, 'clean', 'x', 'setup', 'cleaned')",
            (run.id,),
        )


def test_an_unknown_state_is_refused(journal: Session, run: Run) -> None:
    refused(journal, f"UPDATE confiture.run SET state = 'copied', {PLAN}", "run_state_check")


def test_a_run_cannot_be_inserted_in_a_later_state(journal: Session, run: Run) -> None:
    statement = (
        "CREATE TEMP TABLE copy AS TABLE confiture.run; "
        "UPDATE copy SET id = gen_random_uuid(), state = 'cleaned', plan = '{}', plan_hash = 'h'; "
        "INSERT INTO confiture.run TABLE copy"
    )
    refused(journal, statement, "may not begin in state cleaned")


def test_rows_are_not_read_before_there_is_a_plan(journal: Session, run: Run) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), journal.transaction() as tx:
        transitions.fire(tx, run, "begin")


def test_a_transition_leaves_its_event(database: TestDatabase, journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        assert transitions.fire(tx, run, "abort", {"why": "a test"}) == "aborted"
    event = database.rows("SELECT kind, from_state, to_state, epoch, detail FROM confiture.event WHERE kind = 'abort'")
    assert event == [("abort", "setup", "aborted", 1, {"why": "a test"})]


def test_only_one_of_two_processes_performs_a_transition(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        transitions.fire(tx, run, "abort")
    with pytest.raises(Held, match="no longer in state setup"), journal.transaction() as tx:
        transitions.fire(tx, run, "abort")


# Runs, epochs and runners --------------------------------------------------------------------------


def test_a_target_has_one_live_run(journal: Session, run: Run) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation, match="one_live_run"):
        begin(journal)


def test_a_new_run_may_follow_one_that_has_ended(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        transitions.fire(tx, run, "abort")
    assert begin(journal).state == SETUP


def test_the_epoch_never_decreases(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        assert runs.raise_epoch(tx, run.id, run.epoch, 2)
    refused(journal, "UPDATE confiture.run SET epoch = 1", "would fall from 2 to 1")


def test_the_epoch_is_raised_only_from_the_expected_value(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        assert runs.raise_epoch(tx, run.id, run.epoch, 2)
        assert not runs.raise_epoch(tx, run.id, run.epoch, 2)


def test_a_run_has_one_live_runner(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        leases.begin(tx, run.id, 1, host="a", pid=1, command="migrate")
    with pytest.raises(psycopg.errors.UniqueViolation, match="one_live_runner"), journal.transaction() as tx:
        leases.begin(tx, run.id, 2, host="b", pid=2, command="migrate")
    with journal.transaction() as tx:
        leases.end(tx, run.id, 1, "finished")
        leases.begin(tx, run.id, 2, host="b", pid=2, command="migrate")


def test_the_journal_refuses_a_password(journal: Session, run: Run) -> None:
    refused(journal, "UPDATE confiture.run SET source_conninfo = 'host=a Password = x'", "source_conninfo_check")


# Chunks and history --------------------------------------------------------------------------------


@pytest.fixture
def chunk(journal: Session, run: Run) -> Chunk:
    """The only chunk of a table, done with ten rows in epoch 1."""
    with journal.transaction() as tx:
        add_table(tx, run)
        (only,) = chunks.of_table(tx, run.id, 1)
        chunks.finish(tx, run.id, only, epoch=1, rows=10, seconds=0.1)
    return only


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_chunk_that_is_done_stays_done(journal: Session, chunk: Chunk, status: str) -> None:
    refused(journal, f"UPDATE confiture.chunk SET status = '{status}', rows = NULL", "is done and stays done")


@pytest.mark.parametrize("column", ["rows", "epoch"])
def test_a_chunk_that_is_done_records_its_rows_and_its_epoch(journal: Session, chunk: Chunk, column: str) -> None:
    refused(journal, f"UPDATE confiture.chunk SET {column} = NULL", "chunk_check")


def test_a_chunk_that_is_not_done_has_no_rows(journal: Session, run: Run) -> None:
    with journal.transaction() as tx:
        add_table(tx, run)
    refused(journal, "UPDATE confiture.chunk SET rows = 3", "chunk_check")


@pytest.mark.parametrize("statement", ["UPDATE {} SET run_id = run_id", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("table", ["event", "difference", "verified_unit"])
def test_history_is_append_only(journal: Session, run: Run, table: str, statement: str) -> None:
    with journal.transaction() as tx:
        tx.pg.execute(
            "INSERT INTO confiture.verification (run_id, number, epoch, plan_hash, purpose)"
            " VALUES (%s, 1, 1, 'h', 'verify')",
            (run.id,),
        )
        named = "(run_id, verification, check_name, subject"
        tx.pg.execute(f"INSERT INTO confiture.verified_unit {named}, equal) VALUES (%s, 1, 'r', 's', true)", (run.id,))
        tx.pg.execute(f"INSERT INTO confiture.difference {named}, kind) VALUES (%s, 1, 'r', 's', 'k')", (run.id,))
    refused(journal, statement.format(f"confiture.{table}"), f"{table} is append-only")


# The control schema itself -------------------------------------------------------------------------

#: Every object of the control schema with its definition, and the rows of the tables that install fills.
EVERYTHING = """
    SELECT 'column', attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod) || attnotnull
        FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE relnamespace = 'confiture'::regnamespace AND attnum > 0 AND relkind = 'r'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'confiture'::regnamespace
    UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname::text, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'edge', from_state, to_state, fired_by FROM confiture.state_edge
    UNION ALL SELECT 'migration', version::text, name, applied_at::text FROM confiture.migration
"""


def test_installing_twice_changes_nothing(database: TestDatabase, journal: Session) -> None:
    before = database.rows(EVERYTHING)
    with journal.transaction() as tx:
        schema.install(tx)
    assert sorted(database.rows(EVERYTHING)) == sorted(before)


def test_a_database_without_a_journal_has_no_version(database: TestDatabase) -> None:
    with session_of(database) as session, session.transaction() as tx:
        assert schema.version(tx) is None
        schema.install(tx)
        assert schema.version(tx) == schema.newest()


def test_an_interrupted_installation_leaves_no_objects(database: TestDatabase) -> None:
    with session_of(database) as session:
        with session.rehearsal() as tx:
            schema.install(tx)
        with session.transaction() as tx:
            assert schema.version(tx) is None
    assert database.rows("SELECT 1 FROM pg_namespace WHERE nspname = 'confiture'") == []


def test_installing_over_a_newer_journal_is_refused(journal: Session) -> None:
    with journal.transaction() as tx:
        tx.pg.execute("INSERT INTO confiture.migration VALUES (99, 'later', '9.9')")
    with pytest.raises(Refused, match="version 99"), journal.transaction() as tx:
        schema.install(tx)


COMMANDS = [
    ("setup",),
    ("plan",),
    ("plan", "--source", "old"),
    ("preview", "--table", "post"),
    ("migrate",),
    ("run", "--source", "old"),
    ("verify",),
    ("cutover",),
    ("cleanup",),
    ("abort",),
    ("pause",),
    ("resume",),
]


def test_every_command_refuses_a_journal_newer_than_itself(databases: Databases, tmp_path: Path) -> None:
    move = small_move.make(databases, tmp_path)
    move.setup()
    move.target.sql("INSERT INTO confiture.migration VALUES (99, 'later', '9.9')")
    for command in COMMANDS:
        done = move.run(*command, code=4)
        assert "the journal in the target has version 99" in done.err, command
        assert "install the confiture that wrote it" in done.err, command
    assert move.target.value("SELECT count(*) FROM confiture.runner WHERE command <> 'setup'") == 0


# Another version of the tool, in the middle of a run --------------------------------------------------

LATER = ControlMigration(99, "later", "ALTER TABLE confiture.run ADD COLUMN later integer NOT NULL DEFAULT 7")


@pytest.fixture
def killed_in_copy(databases: Databases, tmp_path: Path, forks: Forks) -> SmallMove:
    """A run whose migrate was killed during the copy."""
    move = small_move.make(databases, tmp_path)
    move.setup()
    assert forks.run(move.arguments("migrate"), move.project, CONFITURE_FAILPOINT="copy.before_commit:3").code == -9
    return move


@contextmanager
def newer_tool() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        known = control_migrations()
        patch.setattr(schema, "control_migrations", lambda: (*known, LATER))
        yield patch


def test_newer_version_continues_a_run_that_an_older_one_began(killed_in_copy: SmallMove, databases: Databases) -> None:
    with newer_tool():
        for given in ((), ("--source", "old")):
            looked = killed_in_copy.run("plan", *given, code=4).err
            assert "an older confiture wrote it" in looked
        killed_in_copy.run("migrate")
    assert killed_in_copy.target.value("SELECT max(version) FROM confiture.migration") == 99
    assert "install the confiture that wrote it" in killed_in_copy.run("verify", code=4).err
    with newer_tool():
        killed_in_copy.finish()
    killed_in_copy.assert_every_row_arrived_once()
    killed_in_copy.assert_as_designed(databases)


@pytest.mark.parametrize("command", ["verify", "cutover", "abort"])
def test_any_command_that_changes_a_run_upgrades_its_journal_first(killed_in_copy: SmallMove, command: str) -> None:
    killed_in_copy.run("migrate")
    killed_in_copy.run("verify")
    with newer_tool():
        killed_in_copy.run(command)
    assert killed_in_copy.target.value("SELECT max(version) FROM confiture.migration") == 99


@pytest.mark.parametrize("point", ["upgrade.before_commit", "upgrade.after_commit"])
def test_an_interrupted_upgrade_is_applied_once(killed_in_copy: SmallMove, point: str) -> None:
    def broken(name: str) -> None:
        if name == point:
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    with newer_tool() as patch:
        patch.setattr(schema, "failpoint", broken)
        killed_in_copy.run("migrate", code=3)
    done = killed_in_copy.target.value("SELECT max(version) FROM confiture.migration") == 99
    assert done == point.endswith("after_commit")
    with newer_tool():
        killed_in_copy.run("migrate")
        killed_in_copy.finish()
    assert killed_in_copy.target.value("SELECT count(*) FROM confiture.migration WHERE version = 99") == 1
    killed_in_copy.assert_every_row_arrived_once()


@pytest.mark.parametrize("version", [1, 8, 14, 16])
def test_an_upgraded_journal_has_the_schema_of_a_fresh_one(databases: Databases, version: int) -> None:
    fresh, old = databases.cloned(""), databases.cloned("")
    for step in control_migrations()[:version]:
        old.sql(step.text)
        old.sql(
            "INSERT INTO confiture.migration (version, name, tool_version)"
            f" VALUES ({step.version}, '{step.name}', 'an older one')"
        )
    for database in (fresh, old):
        with session_of(database) as session:
            schema.keep_up(session)
            with session.transaction() as tx:
                schema.install(tx)
    assert dumped(old) == dumped(fresh)
    for query in (
        "SELECT version, name FROM confiture.migration ORDER BY 1",
        "TABLE confiture.state_edge ORDER BY 1, 2",
        "TABLE confiture.viewable_event ORDER BY 1",
    ):
        assert old.rows(query) == fresh.rows(query)


def dumped(database: TestDatabase) -> str:
    """The statements that create the control schema. Each dump has a random word of its own, which is left out."""
    command = [str(embedded.bundled() / "pg_dump"), "--schema-only", "--schema=confiture", database.conninfo]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def test_a_journal_whose_steps_were_other_ones_is_not_upgraded(killed_in_copy: SmallMove) -> None:
    killed_in_copy.target.sql("UPDATE confiture.migration SET checksum = 'other' WHERE version = 3")
    with newer_tool():
        assert "the journal's step 3, throttle, is not the one" in killed_in_copy.run("migrate", code=4).err
    assert killed_in_copy.target.value("SELECT max(version) FROM confiture.migration") < 99


def test_a_journal_is_not_upgraded_while_another_command_uses_it(killed_in_copy: SmallMove) -> None:
    with killed_in_copy.holding(), newer_tool():
        err = killed_in_copy.run("verify", code=6).err
    assert f"pid {os.getpid()} works with it" in err
    assert killed_in_copy.target.value("SELECT max(version) FROM confiture.migration") < 99
