"""The Chinook example is moved by the five commands, killed several times, and compared with independent SQL.

The test needs the sample database ``chinook.sql`` (see the fixture ``samples``) and is skipped without it.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psycopg
import pytest
from psycopg import sql

from conftest import ROOT, Confiture
from servers import Databases, TestDatabase, load_dump

EXAMPLE = ROOT / "examples" / "chinook"
TARGET = "chinook_new"
#: Small, so that the 15,000 rows of the sample make a few hundred chunks.
CHUNK_ROWS = 100
KILLED = -signal.SIGKILL

#: The fixtures that create databases on the server of the source and on that of the target.
ROUTES = {
    "same-version": ("databases", "databases"),
    "from-older": ("old_databases", "databases"),
    "to-older": ("databases", "old_databases"),
}
#: The points at which ``migrate`` is killed, in this order: while planning, copying, and restoring deferred objects.
KILLS = (
    "plan.before_commit:2",
    "copy.before_commit:2",
    "copy.after_commit:10",
    "copy.before_commit:60",
    "rebuild.before_commit:3",
)
#: Fewer points for routes that differ only in their servers: before the commit of a chunk and after one.
FEW_KILLS = ("copy.before_commit:10", "copy.after_commit:50")


@dataclass(frozen=True)
class Move:
    """A project folder, its two databases, and the command line that moves one into the other."""

    project: Path
    environment: dict[str, str]
    source: TestDatabase
    target: TestDatabase
    strategy: str
    confiture: Confiture

    def step(self, name: str, *options: str, failpoint: str = "", check: int | None = 0) -> CompletedProcess[str]:
        """Run one of the five commands.

        :param check: the required exit code; None accepts every exit code.
        """
        return self.confiture(
            "migrate", "schema-to-schema", name, "--target", TARGET, *options,
            cwd=self.project, env={**self.environment, "CONFITURE_FAILPOINT": failpoint}, check=check,
        )  # fmt: skip

    def migrate(self, **options: Any) -> CompletedProcess[str]:
        """Run ``migrate`` with the same options each time, as a user does after a crash."""
        return self.step("migrate", "--strategy", self.strategy, "--chunk-rows", str(CHUNK_ROWS), **options)


MakeMove = Callable[[str, str], Move]


@pytest.fixture
def make_move(request: pytest.FixtureRequest, samples: Path, confiture: Confiture, tmp_path: Path) -> MakeMove:
    """Copies the example for a route and a strategy, and loads its old database from the sample."""

    def make(route: str, strategy: str) -> Move:
        on_source, on_target = (request.getfixturevalue(name) for name in ROUTES[route])
        if strategy == "fdw":
            skip_without_fdw(on_target)
        source = on_source.make("chinook", options="ENCODING 'UTF8'")
        load_dump(source, samples / "chinook.sql")
        target = TestDatabase(on_target.server, TARGET)
        on_target.adopt(TARGET)  # setup creates it
        project = tmp_path / "chinook"
        shutil.copytree(EXAMPLE, project)
        environment = {"CHINOOK_URL": source.conninfo}
        if on_source is not on_target:
            (project / f"db/environments/{TARGET}.yaml").write_text("database_url: ${CHINOOK_NEW_URL}\n")
            environment["CHINOOK_NEW_URL"] = target.conninfo
        return Move(project, environment, source, target, strategy, confiture)

    return make


def skip_without_fdw(databases: Databases) -> None:
    """Skip the test if the server of the target lacks postgres_fdw."""
    maintenance = TestDatabase(databases.server, "postgres")
    if not maintenance.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'postgres_fdw'"):
        pytest.skip("the target's server has no postgres_fdw")


def expected() -> dict[str, str]:
    """The queries of the example, by the relation whose rows they compute."""
    blocks = re.split(r"^-- name: (\S+)\n", (EXAMPLE / "expected.sql").read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(blocks[1::2], (text.strip().removesuffix(";") for text in blocks[2::2]), strict=True))


def in_utc(database: TestDatabase) -> psycopg.Connection[Any]:
    """A connection with a fixed time zone, so that every server formats values identically."""
    return database.connect(options="-c timezone=UTC -c datestyle=ISO -c extra_float_digits=3")


def contents(database: TestDatabase, query: str) -> tuple[list[str], Counter[str]]:
    """The column names of a query, and its rows as text."""
    with in_utc(database) as connection:
        described = connection.execute(f"SELECT * FROM ({query}) AS r LIMIT 0".encode()).description or []
        rows = connection.execute(f"SELECT r::text FROM ({query}) AS r".encode()).fetchall()
    return [column.name for column in described], Counter(row[0] for row in rows)


def relations(database: TestDatabase) -> set[str]:
    """The tables and views of the new design."""
    return {
        name
        for (name,) in database.rows(
            "SELECT format('%I.%I', relnamespace::regnamespace::text, relname) FROM pg_class"
            " WHERE relkind IN ('r', 'p', 'v', 'm')"
            " AND relnamespace IN ('music'::regnamespace, 'staff'::regnamespace, 'sales'::regnamespace)"
        )
    }


def assert_every_row_is_as_computed(move: Move) -> None:
    queries = expected()
    assert relations(move.target) == set(queries)
    for relation, query in queries.items():
        wanted_names, wanted = contents(move.source, query)
        names, found = contents(move.target, f"TABLE {relation}")
        assert names == wanted_names, relation
        assert not wanted - found, f"{relation} lacks rows"
        assert not found - wanted, f"{relation} has unexpected rows"


def statuses(move: Move) -> set[str]:
    """The set of statuses of all chunks in the journal."""
    return {status for (status,) in move.target.rows("SELECT DISTINCT status FROM confiture.chunk")}


def assert_rows_and_checkpoints_agree(move: Move) -> None:
    """Check that each table has exactly the rows of its finished chunks, so that no chunk is partly copied."""
    done = move.target.rows(
        "SELECT format('%I.%I', target_schema, target_table), coalesce(sum(rows) FILTER (WHERE status = 'done'), 0)"
        " FROM confiture.table_plan AS t LEFT JOIN confiture.chunk AS c"
        " ON (c.run_id, c.table_number) = (t.run_id, t.number) GROUP BY 1"
    )
    assert done
    for table, rows in done:
        assert move.target.value(f"SELECT count(*) FROM {table}") == rows, table


def kill(move: Move, failpoint: str) -> None:
    """Kill ``migrate`` at ``failpoint``. A ``migrate`` that does not reach the failpoint fails the test."""
    died = move.migrate(failpoint=failpoint, check=None)
    assert died.returncode == KILLED, (
        f"{failpoint} was not reached: exit {died.returncode}\n{died.stdout}\n{died.stderr}"
    )
    assert_rows_and_checkpoints_agree(move)
    if failpoint.startswith("copy."):
        assert statuses(move) == {"done", "pending"}, failpoint


#: The objects that the new design declares. Each row names an object and describes it.
DECLARED = """
    SELECT 'constraint', conrelid::regclass::text, conname::text,
           pg_get_constraintdef(oid) || ' ' || convalidated, obj_description(oid, 'pg_constraint')
    FROM pg_constraint WHERE connamespace::regnamespace::text = ANY ('{music,staff,sales}')
    UNION ALL
    SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text,
           pg_get_indexdef(indexrelid) || ' ' || indisvalid, obj_description(indexrelid, 'pg_class')
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relnamespace::regnamespace::text = ANY ('{music,staff,sales}')
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text, tgname::text,
           pg_get_triggerdef(pg_trigger.oid) || ' ' || tgenabled::text, obj_description(pg_trigger.oid, 'pg_trigger')
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE NOT tgisinternal AND relnamespace::regnamespace::text = ANY ('{music,staff,sales}')
    UNION ALL
    SELECT 'column', attrelid::regclass::text, attname::text,
           format_type(atttypid, atttypmod) || ' ' || attnotnull || ' ' || attidentity::text || attgenerated::text,
           col_description(attrelid, attnum)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relkind IN ('r', 'v', 'm') AND attnum > 0 AND relnamespace::regnamespace::text = ANY ('{music,staff,sales}')
"""


def freshly_built(databases: Databases) -> TestDatabase:
    """A database with the new design as its files declare it, without rows."""
    database = databases.make()
    for path in sorted((EXAMPLE / "db" / "schema").glob("*/*.sql")):
        database.sql(path.read_text(encoding="utf-8"))
    return database


def assert_declared_objects_are_restored(move: Move, fresh: TestDatabase) -> None:
    assert set(move.target.rows(DECLARED)) == set(fresh.rows(DECLARED))


def assert_the_application_can_write(move: Move) -> None:
    """Check that sequences continue after the copied rows, and that triggers, cascades and deferred keys work."""
    with move.target.connect(autocommit=False) as connection:
        for table, values in application_writes():
            connection.execute(sql.SQL("INSERT INTO {} {}").format(sql.Identifier(*table.split(".")), sql.SQL(values)))
        revision = connection.execute(
            "UPDATE sales.customer SET phone = NULL WHERE customer_id = 1 RETURNING revision"
        ).fetchone()
        connection.execute("DELETE FROM sales.invoice WHERE invoice_id = 1")
        orphans = connection.execute("SELECT count(*) FROM sales.invoice_item WHERE invoice_id = 1").fetchone()
        connection.rollback()
    assert revision == (1,)
    assert orphans == (0,)


def application_writes() -> Iterator[tuple[str, str]]:
    """Tables and rows whose keys the database generates."""
    yield "music.artist", "(name) VALUES ('Somebody new')"
    yield "music.genre", "(name) VALUES ('Something new')"
    yield "music.playlist", "(name) VALUES ('Tonight')"
    # The employee is inserted before the manager, because the foreign key is checked at the end.
    yield "staff.employee", "(manager_id, full_name, first_name, last_name) VALUES (9999, 'A B', 'A', 'B')"
    yield (
        "staff.employee",
        "(employee_id, full_name, first_name, last_name) OVERRIDING SYSTEM VALUE VALUES (9999, 'C D', 'C', 'D')",
    )
    yield (
        "sales.invoice",
        "(customer_id, issued_at, total_cents, size) VALUES (1, '2014-01-01 00:00+00', 99, 'small')",
    )


def assert_nothing_of_the_run_is_left(move: Move) -> None:
    """Check that only the journal and the write block of the source remain of the objects that the run created."""
    of_the_run = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'confiture%'"
    # The source stays closed: only the function of its write block is left there.
    ours = "relnamespace::regnamespace::text ~ '^confiture' AND relkind IN ('r', 'v', 'S')"
    assert move.source.rows(f"SELECT relname FROM pg_class WHERE {ours}") == []
    functions = "SELECT proname FROM pg_proc WHERE pronamespace::regnamespace::text ~ '^confiture'"
    assert move.source.rows(functions) == [("write_block",)]
    assert move.target.rows(of_the_run) == [("confiture",)]
    assert move.target.rows("SELECT srvname FROM pg_foreign_server") == []


@pytest.mark.parametrize("strategy", ["fdw", "copy"])
@pytest.mark.parametrize("route", list(ROUTES))
def test_every_row_of_the_example_arrives_if_migrate_is_killed_repeatedly(
    make_move: MakeMove, request: pytest.FixtureRequest, route: str, strategy: str
) -> None:
    move = make_move(route, strategy)
    move.step("setup", "--source", "chinook", "--mapping", "column_mapping.yaml")
    for failpoint in KILLS if route == "same-version" else FEW_KILLS:
        kill(move, failpoint)
    move.migrate()
    assert_rows_and_checkpoints_agree(move)
    assert statuses(move) == {"done"}
    assert_every_row_is_as_computed(move)

    move.step("verify")
    move.step("cutover", "--no-rollback")
    move.step("cleanup", "--yes")
    assert move.target.rows("SELECT state FROM confiture.run") == [("cleaned",)]
    assert_every_row_is_as_computed(move)
    assert_declared_objects_are_restored(move, freshly_built(request.getfixturevalue(ROUTES[route][1])))
    assert_nothing_of_the_run_is_left(move)
    assert_the_application_can_write(move)
