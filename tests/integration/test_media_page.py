"""The page "Which medium when": the locks and the rewrites of its statements are those that a server shows."""

from __future__ import annotations

import re
import threading
import time

import psycopg
import pytest

from conftest import ROOT
from servers import Databases, TestDatabase

PAGE = ROOT / "docs" / "media.md"
TABLES = """
CREATE TABLE person (id int PRIMARY KEY);
CREATE TABLE item (id int PRIMARY KEY, name text, code varchar(10), owner int, old text);
INSERT INTO person VALUES (1);
INSERT INTO item SELECT n, 'n' || n, 'C' || n, 1, 'x' FROM generate_series(1, 2000) n;
"""
#: From the weakest to the strongest.
LOCKS = (
    "none", "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE", "ACCESS EXCLUSIVE",
)  # fmt: skip
ROWS = [
    (found[1], found[2])
    for found in re.finditer(r"^\| `([A-Z][^`]*)` \|[^|]*\| ([^|]*) \|", PAGE.read_text(encoding="utf-8"), re.M)
]
HELD = """
SELECT mode FROM pg_locks WHERE relation = 'item'::regclass AND granted AND pid = %s
"""


def strongest(modes: list[str]) -> str:
    words = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", mode.removesuffix("Lock")).upper() for mode in modes]
    return max(words, key=LOCKS.index, default="none")


def in_transaction(database: TestDatabase, statement: str) -> tuple[str, bool]:
    """The strongest lock on item that the statement holds at its end, and whether it wrote a new file of the table."""
    with database.connect() as connection, connection.transaction():
        before = file_of(connection)
        connection.execute(statement.encode())
        modes = [mode for (mode,) in connection.execute(HELD, (connection.info.backend_pid,)).fetchall()]
        return strongest(modes), file_of(connection) != before


def file_of(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    (found,) = connection.execute("SELECT pg_relation_filenode('item')").fetchall()
    return found


def concurrently(database: TestDatabase, statement: str) -> tuple[str, bool]:
    """The same of a statement that runs outside of a transaction, while it waits for another session."""
    with database.connect() as builder, database.connect(autocommit=False) as writer, database.connect() as looker:
        writer.execute("UPDATE item SET name = name WHERE id = 1")
        work = threading.Thread(target=lambda: builder.execute(statement.encode()))
        work.start()
        waits = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        while not looker.execute(waits, (builder.info.backend_pid,)).fetchall():
            time.sleep(0.02)
        modes = [mode for (mode,) in looker.execute(HELD, (builder.info.backend_pid,)).fetchall()]
        writer.rollback()
        work.join()
    return strongest(modes), False


def test_each_statement_of_the_page_takes_the_lock_that_the_page_names(databases: Databases) -> None:
    assert len(ROWS) > 10
    database = databases.cloned(TABLES)
    for statement, lock in ROWS:
        act = concurrently if "CONCURRENTLY" in statement else in_transaction
        found, rewritten = act(database, statement)
        assert lock.startswith(found), f"{statement}: {found}, the page has {lock}"
        assert rewritten == ("rewrites" in lock), statement


def test_the_page_names_a_lock_of_postgresql_in_each_row(databases: Databases) -> None:
    for statement, lock in ROWS:
        named = re.match(r"none|[A-Z]+(?: [A-Z]+)*", lock)
        assert named is not None, statement
        assert named[0] in LOCKS, statement


@pytest.mark.parametrize("guide", ["build.md", "migrations.md", "sync.md", "guide.md", "lint.md"])
def test_each_guide_leads_to_the_page_and_back(guide: str) -> None:
    assert f"({guide})" in PAGE.read_text(encoding="utf-8")
    assert "(media.md)" in (ROOT / "docs" / guide).read_text(encoding="utf-8")
