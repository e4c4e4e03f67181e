"""A migration of any two schemas within this process, and the assertions about its result.

Rows are compared as text fetched from both sides, independently of the tool's own SELECT and checksum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from confiture import commands
from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.copy import foreign_server
from confiture.plan.model import Plan, TablePlan, plan_from_json
from confiture.runner.progress import Silent
from confiture.schema_to_schema.outcomes import Limits, Result
from servers import Databases, TestDatabase

OURS = "'^(pg_|information_schema$|confiture)'"

#: Everything that the DDL determines about a table and its partitions, by name and definition.
DESIGN = {
    "constraints": f"""
        SELECT n.nspname, coalesce(c.relname, ''), con.conname, con.contype, pg_get_constraintdef(con.oid),
               con.convalidated, con.condeferrable, con.condeferred, obj_description(con.oid, 'pg_constraint')
        FROM pg_constraint con JOIN pg_namespace n ON n.oid = con.connamespace
        LEFT JOIN pg_class c ON c.oid = con.conrelid WHERE n.nspname !~ {OURS}""",
    "indexes": f"""
        SELECT n.nspname, c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisprimary, i.indisunique,
               i.indimmediate, i.indisclustered, i.indisreplident, c.reloptions::text, h.inhparent::regclass::text,
               obj_description(c.oid, 'pg_class'), c.relkind
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_inherits h ON h.inhrelid = c.oid WHERE n.nspname !~ {OURS}""",
    "triggers": f"""
        SELECT n.nspname, c.relname, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled,
               obj_description(t.oid, 'pg_trigger')
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT t.tgisinternal AND n.nspname !~ {OURS}""",
    "columns": f"""
        SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               a.attgenerated, a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid),
               col_description(c.oid, a.attnum)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ {OURS}""",
    "relations": f"""
        SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.relispartition, c.reloptions::text, c.relreplident,
               c.relrowsecurity, obj_description(c.oid, 'pg_class'), pg_get_expr(c.relpartbound, c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ {OURS}
          AND c.relkind NOT IN ('i', 'I')""",
    "extensions": "SELECT extname FROM pg_extension WHERE extname <> 'postgres_fdw'",
}


@dataclass(frozen=True)
class AnyMove:
    """A project folder with its source and the name of the target. Setup creates the target unless it exists."""

    project: Path
    source: TestDatabase
    target: TestDatabase
    ddl: str

    @property
    def where(self) -> Endpoints:
        """Both databases, as the command line names them."""
        return Endpoints("new", "old", self.project)

    def plan(self, **choices: Any) -> Plan:
        """Run ``plan`` before anything is created."""
        return commands.plan.make(self.where, self._choices(choices)).plan

    def _choices(self, given: dict[str, Any]) -> RunOptions:
        return RunOptions(mapping=self.project / "column_mapping.yaml", **{"capture": False, **given})

    def setup(self, **choices: Any) -> None:
        """Run setup with the mapping."""
        commands.setup.execute(self.where, self._choices(choices), Silent())

    def migrate(self) -> int:
        """Run migrate. Returns the number of rows copied."""
        return commands.migrate.execute(self.where, RunOptions(), Silent())[1]

    def verify(self, report: Path | None = None) -> Result:
        """Run ``verify --again``."""
        return commands.verify.execute(self.where, report, True, Silent())[1]

    def cutover(self) -> None:
        """Run cutover."""
        commands.cutover.execute(self.where, Limits(), self.project / "differences.jsonl", Silent())

    def cleanup(self) -> None:
        """Run cleanup."""
        commands.cleanup.execute(self.where, None, lambda: None, Silent())

    def through(self, *, far: bool = False, **choices: Any) -> AnyMove:
        """Run every step up to verify, which must find no difference.

        :param far: plan as on a machine that is far from both servers: with postgres_fdw, where it is possible.
        """
        with pytest.MonkeyPatch.context() as patch:
            if far:
                patch.setattr(foreign_server, "NEAR_SECONDS", 0.0)
            self.setup(**choices)
        self.migrate()
        result = self.verify()
        assert result.equal, [d.place for d in result.differences] + [n for n, ok in result.checks.items() if not ok]
        return self

    # State and assertions --------------------------------------------------------------------------

    @property
    def stored(self) -> Plan:
        """The plan in the journal."""
        return plan_from_json(self.target.value("SELECT plan FROM confiture.run"))

    def planned(self, table: str) -> TablePlan:
        """A table of the stored plan, by the name of its target, with the schema unless that is public."""
        return next(t for t in self.stored.tables if table in (t.target.name, f"{t.target.schema}.{t.target.name}"))

    def chunks(self, table: str) -> int:
        """The number of chunks in which a table was copied."""
        number = self.planned(table).number
        return int(self.target.value(f"SELECT count(*) FROM confiture.chunk WHERE table_number = {number}"))

    def assert_same(self, source: str, target: str | None = None) -> None:
        """Assert that both queries return the same rows as text, each equally often."""
        a, b = texts(self.source, source), texts(self.target, target or source)
        assert (a - b, b - a) == (Counter(), Counter())

    def assert_as_designed(self, databases: Databases) -> None:
        """Assert that everything in the target is as its DDL alone would have created it."""
        alone = databases.cloned(self.ddl)
        for what, query in DESIGN.items():
            expected, found = Counter(alone.rows(query)), Counter(self.target.rows(query))
            assert (list(expected - found), list(found - expected)) == ([], []), what


def texts(database: TestDatabase, query: str) -> Counter[tuple[str | None, ...]]:
    """The rows of a query as a multiset, every value in its text form."""
    with database.connect() as connection:
        connection.execute("SET lc_monetary = 'C'; SET timezone = 'UTC'")
        columns = connection.execute(f"SELECT * FROM ({query}) q LIMIT 0".encode()).description or []
        names = [sql.Identifier(f"c{n}") for n in range(len(columns))]
        # One array per row, so that a very wide table does not exceed the limits of a SELECT list.
        items = sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names)
        called = sql.SQL("({})").format(sql.SQL(", ").join(names)) if names else sql.SQL("")
        statement = sql.SQL("SELECT ARRAY[{}]::text[] FROM ({}) q{}").format(items, sql.SQL(query), called)
        return Counter(tuple(row[0]) for row in connection.execute(statement).fetchall())


def make(
    databases: Databases,
    folder: Path,
    source: str | TestDatabase,
    ddl: str,
    mapping: str = "",
    *,
    on: Databases | None = None,
) -> AnyMove:
    """Create a project in ``folder``.

    :param on: the server of the target, if it is not that of the source.
    """
    old = source if isinstance(source, TestDatabase) else databases.cloned(source)
    there = on or databases
    new = TestDatabase(there.server, f"{old.name}_new")
    there.adopt(new.name)
    folder.mkdir(parents=True, exist_ok=True)
    files: Sequence[tuple[str, str]] = (
        ("db/environments/old.yaml", f"database_url: {old.conninfo}\n"),
        ("db/environments/new.yaml", f"database_url: {new.conninfo}\n"),
        ("db/schema/10_all/all.sql", ddl),
        ("column_mapping.yaml", mapping),
    )
    for path, text in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return AnyMove(folder, old, new, ddl)
