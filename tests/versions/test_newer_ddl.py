"""DDL that only a newer PostgreSQL knows is refused by plan with its file and line, before anything is changed."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

import postgres_versions
from confiture.errors import DataFailure
from live import LiveRun
from servers import Databases

OLD = "CREATE TABLE item (id int PRIMARY KEY, size int);"
#: The version since which PostgreSQL accepts the statement.
STATEMENTS = {
    "15 NULLS NOT DISTINCT": "ALTER TABLE item ADD UNIQUE NULLS NOT DISTINCT (size);",
    "15 security_invoker": "CREATE VIEW big WITH (security_invoker = true) AS SELECT * FROM item;",
    "15 a row filter": "CREATE PUBLICATION big FOR TABLE item WHERE (id > 1);",
    "16 any_value": "CREATE VIEW one AS SELECT any_value(size) FROM item;",
    "17 JSON_TABLE": "CREATE VIEW n AS SELECT * FROM JSON_TABLE('[1]'::jsonb, '$[*]' COLUMNS (n int PATH '$')) j;",
    "18 VIRTUAL": "ALTER TABLE item ADD twice int GENERATED ALWAYS AS (size * 2) VIRTUAL;",
    "18 NOT ENFORCED": "ALTER TABLE item ADD CHECK (size > 0) NOT ENFORCED;",
    "18 NOT VALID of NOT NULL": "ALTER TABLE item ADD CONSTRAINT filled NOT NULL size NOT VALID;",
    "18 uuidv7": "ALTER TABLE item ADD tag uuid DEFAULT uuidv7();",
    "18 WITHOUT OVERLAPS": "CREATE TABLE stay (day daterange, UNIQUE (day WITHOUT OVERLAPS));",
}
NEWER = [
    pytest.param(name, (postgres_versions.NEWEST, older), id=f"{name} on {older}")
    for name in STATEMENTS
    for older in ("14", "15", "16", "17")
    if int(older) < int(name[:2])
]


@pytest.mark.parametrize(("name", "pair"), NEWER, indirect=["pair"])
def test_a_newer_statement_is_refused_by_plan_with_its_line(
    pair: tuple[Databases, Databases], tmp_path: Path, name: str
) -> None:
    live = LiveRun(pair[0], tmp_path, OLD, OLD, apart=pair[1])
    assert live.plan().tables
    with (tmp_path / "db/schema/10/new.sql").open("a") as ddl:
        ddl.write(f"\n{STATEMENTS[name]}\n")
    with pytest.raises(DataFailure, match=r"new\.sql:2:") as refused:
        live.plan()
    assert STATEMENTS[name].rstrip(";") in (refused.value.why or "")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        live.target.connect()
