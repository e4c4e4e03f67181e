"""The work for many tables grows with their number, and not with its square."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from confiture.schema_to_schema import log_compaction
from live import LiveRun
from servers import Databases

#: Statements that name fewer tables are about one table and those that it references.
ALL_TABLES = 5
STEPS = ("setup", "migrate", "verify", "cutover")


class Named:
    """How many times statements about all tables name a table or its log."""

    def __init__(self) -> None:
        self.times = 0

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        execute = psycopg.Cursor.execute

        def counting(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
            text = query.as_string(cursor) if hasattr(query, "as_string") else str(query)
            named = len(re.findall(r"\b(?:many_|log_)\d+\b", f"{text} {params}"))
            self.times += named if named >= ALL_TABLES else 0
            return execute(cursor, query, params, **options)

        monkeypatch.setattr(psycopg.Cursor, "execute", counting)


def steps(databases: Databases, folder: Path, tables: int, named: Named) -> dict[str, int]:
    """How many times each step names the tables."""
    ddl = "".join(
        f"CREATE TABLE many_{n} (id int PRIMARY KEY, v int); CREATE INDEX ON many_{n} (v);" for n in range(tables)
    )
    rows = "".join(f"INSERT INTO many_{n} SELECT g, g FROM generate_series(1, 9) g;" for n in range(tables))
    live = LiveRun(databases, folder, ddl + rows, ddl)
    found = {}
    for step in STEPS:
        named.times = 0
        getattr(live, step)()
        found[step] = named.times
    return found


def test_the_statements_of_each_step_grow_with_the_number_of_tables(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_compaction, "EVERY_SECONDS", 3600.0)
    named = Named()
    named.watch(monkeypatch)
    few = steps(databases, tmp_path / "few", 6, named)
    many = steps(databases, tmp_path / "many", 12, named)
    for step in STEPS:
        assert many[step] <= 2.3 * few[step], (step, few, many)
