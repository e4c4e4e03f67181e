"""The locks and the work that the linter states are those of servers of two versions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from confiture.lint import check, taken
from confiture.lint.locks import Lock, Work
from confiture.lint.model import Draft
from confiture.lint.script import Statement
from confiture.lint.seen import Seen
from confiture.postgres.embedded import Server
from confiture.types import TableRef
from forked import until
from lint_corpus import CASES, SCHEMA, Case, existing
from servers import Databases, TestDatabase

#: Modes in ``pg_locks`` by name.
MODES = {lock.view_name: lock for lock in Lock}
#: Weaker modes are not stated.
FROM = Lock.SHARE_UPDATE_EXCLUSIVE
EXTRA = (
    "SET allow_in_place_tablespaces = on; DROP TABLESPACE IF EXISTS elsewhere",
    "SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''",
)
OBJECTS = "CREATE ACCESS METHOD heap_again TYPE TABLE HANDLER heap_tableam_handler"


@dataclass(frozen=True)
class Effect:
    """The state of the tables in a transaction.

    :ivar locks: the strongest lock of the session on each table.
    :ivar files: the file of each table.
    :ivar read: the rows that the transaction has read of each table.
    """

    locks: dict[TableRef, Lock]
    files: dict[TableRef, int]
    read: dict[TableRef, int]


def tables(connection: psycopg.Connection[Any]) -> dict[int, TableRef]:
    found = connection.execute(
        "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('public', 'app') AND c.relkind IN ('r', 'p', 'm', 'v')"
    ).fetchall()
    return {oid: TableRef(schema, name) for oid, schema, name in found}


def effect(connection: psycopg.Connection[Any], known: dict[int, TableRef], pid: int | None = None) -> Effect:
    locks: dict[TableRef, Lock] = {}
    for oid, mode in connection.execute(
        "SELECT relation, mode FROM pg_locks WHERE locktype = 'relation' AND pid = coalesce(%s, pg_backend_pid())"
        " AND relation = ANY (%s)",
        (pid, list(known)),
    ).fetchall():
        lock = MODES[mode]
        if lock >= FROM:
            locks[known[oid]] = max(lock, locks.get(known[oid], lock))
    files = connection.execute(
        "SELECT c.oid, pg_relation_filenode(c.oid) FROM pg_class c WHERE c.oid = ANY (%s)", (list(known),)
    ).fetchall()
    read = connection.execute(
        "SELECT relid, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_all_tables"
        " WHERE relid = ANY (%s)",
        (list(known),),
    ).fetchall()
    return Effect(
        locks,
        {known[oid]: node for oid, node in files if node is not None},
        {known[oid]: rows or 0 for oid, rows in read},
    )


def judged(case: Case) -> Iterator[tuple[Statement, list[Draft], Seen]]:
    seen = Seen()
    for _ in check.judged(existing(), seen):
        pass
    for statement, drafts in check.judged(case.script, seen):
        yield statement, drafts, seen


@pytest.fixture(scope="module", params=["18", "15"])
def running(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue("server" if request.param == "18" else "old_server")
    with psycopg.connect(found.conninfo("postgres"), autocommit=True) as admin:
        for statement in EXTRA:
            for part in statement.split("; "):
                admin.execute(part.encode())
    return found


@pytest.fixture
def on(running: Server) -> Iterator[Databases]:
    made = Databases(running)
    yield made
    made.drop_all()


def skip_unless_accepted(case: Case, database: TestDatabase) -> None:
    version = database.value("SHOW server_version_num")
    if case.since > int(version) // 10_000:
        pytest.skip(f"the syntax is that of PostgreSQL {case.since}")


INSIDE = [case for case in CASES if case.transactional and not case.fails]
OUTSIDE = [case for case in CASES if not case.transactional]
FAILING = [case for case in CASES if case.fails]
#: Statements that change rows read them, and those that replace all rows replace the file.
ROWS = (
    "select_stmt",
    "insert_stmt",
    "update_stmt",
    "delete_stmt",
    "truncate_stmt",
    "create_table_as_stmt",
    "vacuum_stmt",
)


@pytest.mark.parametrize("case", INSIDE, ids=lambda case: case.name)
def test_the_locks_and_the_work_of_a_statement_are_those_of_the_server(case: Case, on: Databases) -> None:
    database = on.cloned(SCHEMA + OBJECTS)
    skip_unless_accepted(case, database)
    with database.connect() as connection:
        known = tables(connection)
        connection.execute("BEGIN")
        before = effect(connection, known)
        for statement, drafts, seen in judged(case):
            stated = {
                t: lock for t, lock in taken.locks(statement, seen).items() if lock >= FROM and t in known.values()
            }
            connection.execute(statement.source.text.encode())
            after = effect(connection, known)
            if "CASCADE" in statement.source.text:
                stated |= {t: lock for t, lock in after.locks.items() if t not in stated}  # without facts, not known
            both = before.locks.keys() | stated.keys()
            expected = {t: max(lock for lock in (before.locks.get(t), stated.get(t)) if lock) for t in both}
            for table in partitions(seen) & both:  # PostgreSQL 15 locks some partitions less than 18
                assert FROM <= after.locks[table] <= expected[table]
                expected[table] = after.locks[table]
            assert after.locks == expected
            for draft in drafts:
                if draft.table is not None and draft.lock is not None and draft.lock >= FROM:
                    assert after.locks[draft.table] == draft.lock, draft.rule.name
            check_work(statement, drafts, before, after, seen)
            before = after
        connection.execute("ROLLBACK")


def check_work(statement: Statement, drafts: list[Draft], before: Effect, after: Effect, seen: Seen) -> None:
    rewritten = {t for t, node in before.files.items() if t in after.files and after.files[t] != node}
    stated = {d.table for d in drafts if d.work is Work.rewrite}
    if statement.kind not in ROWS:
        assert rewritten == stated
        read = {t for t in after.read if after.read[t] > before.read.get(t, 0)}
        allowed = {d.table for d in drafts if d.work in (Work.scan, Work.build, Work.rewrite) and d.table is not None}
        below = {partition for table in allowed for partition in seen.partitions(table)}
        # The domain's tables are found by the server.
        if (
            all(d.table is not None for d in drafts if d.work is Work.scan)
            and statement.kind != "refresh_mat_view_stmt"
        ):
            assert {t for t in read if not validates(statement)} <= (allowed | below | referenced(drafts))
        for table in allowed:
            if statement.kind != "refresh_mat_view_stmt" and statement.kind != "reindex_stmt":
                assert read & {table, *seen.partitions(table)} or table in rewritten, f"{table} is not read"


def partitions(seen: Seen) -> set[TableRef]:
    return {partition for table in seen.tables for partition in seen.partitions(table)}


def validates(statement: Statement) -> bool:
    return "VALIDATE CONSTRAINT" in statement.source.text


def referenced(drafts: list[Draft]) -> set[TableRef]:
    """The other table of a foreign key, which the server reads too."""
    names = ("users", "orders")
    found = any(draft.rule.name == "foreign-key-without-not-valid" for draft in drafts)
    return {TableRef("public", name) for name in names} if found else set()


@pytest.mark.parametrize("case", FAILING, ids=lambda case: case.name)
def test_the_server_refuses_a_statement_that_the_linter_says_fails(case: Case, on: Databases) -> None:
    database = on.cloned(SCHEMA + OBJECTS)
    if case.rules == ("transaction-control",):
        pytest.skip("migrate up refuses it, and not the server")
    with database.connect(autocommit=False) as connection:
        *before, last = case.script.statements
        for statement in before:
            connection.execute(statement.source.text.encode())
        with pytest.raises(psycopg.Error):
            connection.execute(last.source.text.encode())
        connection.rollback()


@pytest.mark.parametrize("case", OUTSIDE, ids=lambda case: case.name)
def test_the_lock_of_a_statement_outside_a_transaction_is_that_of_the_server(case: Case, on: Databases) -> None:
    """Another session holds the tables, so that the lock which the statement waits for is visible."""
    database = on.cloned(SCHEMA + OBJECTS)
    skip_unless_accepted(case, database)
    for statement, _, seen in judged(case):
        stated = {t: lock for t, lock in taken.locks(statement, seen).items() if lock >= FROM}
        for table, lock in stated.items():
            found = waited_for(database, statement, table)
            if "DETACH PARTITION" in statement.source.text:
                # It takes ACCESS EXCLUSIVE on the partition in its second transaction, which begins after the first.
                assert found in (lock, Lock.SHARE_UPDATE_EXCLUSIVE)
            else:
                assert found is lock
        with database.connect() as connection:
            connection.execute(statement.source.text.encode())


def waited_for(database: TestDatabase, statement: Statement, table: TableRef) -> Lock | None:
    """The mode that a statement requests while another session has locked the table; the statement is cancelled."""
    with database.connect() as holder, database.connect() as worker, database.connect() as observer:
        holder.execute("BEGIN")
        holder.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE".encode())
        thread = threading.Thread(target=cancelled, args=(worker, statement.source.text))
        thread.start()
        query = "SELECT mode FROM pg_locks WHERE NOT granted AND relation = %s::regclass AND pid = %s"
        try:
            until(
                lambda: observer.execute(query.encode(), (str(table), worker.info.backend_pid)).fetchone() is not None,
                "the statement waits for its lock",
            )
            found = observer.execute(query.encode(), (str(table), worker.info.backend_pid)).fetchone()
        finally:
            observer.execute("SELECT pg_cancel_backend(%s)", (worker.info.backend_pid,))
            thread.join()
            holder.execute("ROLLBACK")
        assert found is not None
        return MODES[found[0]]


def cancelled(worker: psycopg.Connection[Any], text: str) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        worker.execute(text.encode())
