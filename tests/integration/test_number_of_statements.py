"""The number of statements for many tables: one for all of them where one suffices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from confiture import commands
from confiture.status.report import report
from live import LiveRun
from servers import Databases, TestDatabase

#: Statements of setup for one more table with three indexes and a foreign key: most create its capture and its write
#: block, or restore what the target's DDL creates.
SETUP_MOST = 60
FEW, MANY = 4, 12


class Statements:
    """The number of statements of every connection, with what psycopg sends by itself for savepoints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        execute = psycopg.Cursor.execute
        savepoint = psycopg.Transaction._enter_gen

        def counting(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
            self.sent += 1
            return execute(cursor, query, params, **options)

        def entering(transaction: Any) -> Any:
            self.sent += 1
            return savepoint(transaction)

        monkeypatch.setattr(psycopg.Cursor, "execute", counting)
        monkeypatch.setattr(psycopg.Transaction, "_enter_gen", entering)

    def of(self, act: Callable[[], object]) -> int:
        """The number of statements of one act."""
        before = self.sent
        act()
        return self.sent - before


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    return Statements(monkeypatch)


def ddl(tables: int) -> str:
    return "".join(
        f"CREATE TABLE many_{n} (id int PRIMARY KEY, parent int REFERENCES many_{max(n - 1, 0)}, v int);"
        f"CREATE INDEX ON many_{n} (v);CREATE INDEX ON many_{n} (parent);"
        for n in range(tables)
    )


def tables_of(databases: Databases, folder: Path, tables: int) -> LiveRun:
    return LiveRun(databases, folder, ddl(tables), ddl(tables))


def test_plan_sends_no_statement_for_a_single_table_of_many(
    databases: Databases, tmp_path: Path, statements: Statements
) -> None:
    def planning(tables: int) -> int:
        live = tables_of(databases, tmp_path / str(tables), tables)
        # In a target that is built: the DDL itself has some statements for each table.
        databases.make(live.target.name).sql(ddl(tables))
        return statements.of(lambda: commands.plan.make(live.where, live.choices))

    # Less than one for each table: a session that watches for waiting writers sends some, depending on the time.
    assert planning(MANY) - planning(FEW) < MANY - FEW


def test_setup_sends_a_bounded_number_of_statements_for_each_table(
    databases: Databases, tmp_path: Path, statements: Statements
) -> None:
    few = statements.of(tables_of(databases, tmp_path / "few", FEW).setup)
    many = statements.of(tables_of(databases, tmp_path / "many", MANY).setup)
    assert many - few <= SETUP_MOST * (MANY - FEW)


def test_status_sends_as_many_statements_for_many_tables_and_chunks(
    databases: Databases, tmp_path: Path, statements: Statements
) -> None:
    def reading(tables: int, chunks: int) -> int:
        live = tables_of(databases, tmp_path / str(tables), tables)
        live.setup()
        add_chunks(live.target, chunks)
        return statements.of(lambda: print(report(live.target.conninfo, tmp_path)))

    assert reading(MANY, 1_000) == reading(FEW, 1)


def add_chunks(target: TestDatabase, chunks: int) -> None:
    """Record chunks of each table as copied."""
    target.as_the_run(
        "INSERT INTO confiture.chunk (run_id, table_number, number, status, rows, epoch, done_at)"
        f" SELECT run_id, number, g, 'done', 1, 1, now() FROM confiture.table_plan, generate_series(1, {chunks}) g"
    )
