"""Functions that rely on search_path: the error names the function and the statement that fixes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from confiture.errors import DataFailure
from live import LiveRun
from servers import Databases

OLD = "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT n, 'V' || n FROM generate_series(1, 20) n;"
NEW = """
CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$;
CREATE FUNCTION by_sql(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT plain(t) $$;
CREATE FUNCTION by_plpgsql(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN plain(t); END $$;
CREATE TABLE known (v text PRIMARY KEY);
CREATE FUNCTION reads(t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    RETURN (SELECT count(*) = 0 FROM known WHERE known.v = t); END $$;
CREATE TABLE a (id int PRIMARY KEY, v text);
"""


def _fix(error: DataFailure) -> str:
    """The statement that the error recommends."""
    found = re.match(r"(ALTER FUNCTION .* SET search_path = public, pg_temp) \(", error.fix or "")
    assert found is not None, error.fix
    return found[1]


@pytest.mark.parametrize(
    ("kind", "function"), [("old_databases", "by_sql"), ("old_databases", "by_plpgsql"), ("databases", "by_plpgsql")]
)
def test_error_of_an_index_rebuild_names_the_function(
    kind: str, function: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    live = LiveRun(request.getfixturevalue(kind), tmp_path, OLD, f"{NEW} CREATE INDEX low ON a ({function}(v));")
    live.setup()
    with pytest.raises(DataFailure) as failed:
        live.migrate()
    assert function in failed.value.what
    assert "index low on public.a" in failed.value.what
    live.target.sql(_fix(failed.value))
    live.migrate()
    assert live.verify().equal
    live.cutover()


def test_error_of_an_index_in_the_new_schema_names_the_function(databases: Databases, tmp_path: Path) -> None:
    index = "CREATE INDEX low ON a (by_sql(v));"
    live = LiveRun(databases, tmp_path, OLD, NEW + index)
    with pytest.raises(DataFailure) as failed:
        live.setup()
    (live.project / "db/schema/10/new.sql").write_text(f"{NEW} {_fix(failed.value)}; {index}")
    live.through()
    live.assert_same(a="SELECT * FROM a")


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
@pytest.mark.parametrize(
    ("added", "function"),
    [
        ("ALTER TABLE a ADD CHECK (reads(v));", "reads"),
        ("ALTER TABLE a ADD low text GENERATED ALWAYS AS (by_plpgsql(v)) STORED;", "by_plpgsql"),
        ("ALTER TABLE a ADD made text DEFAULT by_plpgsql('x');", "by_plpgsql"),
    ],
    ids=["check", "generated", "default"],
)
def test_error_of_a_row_that_cannot_be_copied_names_the_function(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, added: str, function: str
) -> None:
    live = LiveRun(request.getfixturevalue(kind), tmp_path, OLD, NEW + added, chunk_rows=7, strategy="copy")
    live.setup()
    with pytest.raises(DataFailure) as failed:
        live.migrate()
    assert function in failed.value.what
    assert "public.a" in failed.value.what
    live.target.sql(_fix(failed.value))
    live.migrate()
    assert live.verify().equal


def test_cutover_names_a_stale_materialized_view_and_its_function(databases: Databases, tmp_path: Path) -> None:
    view = "CREATE MATERIALIZED VIEW low AS SELECT by_plpgsql(v) AS v FROM a;"
    with_path = "ALTER FUNCTION by_plpgsql SET search_path = public, pg_temp;"
    live = LiveRun(databases, tmp_path, OLD, NEW + with_path + view)
    live.up_to_cutover()
    live.target.sql("ALTER FUNCTION by_plpgsql RESET search_path")
    live.cutover()
    said = "\n".join(live.progress.lines)
    assert "materialized view public.low is stale" in said
    assert "ALTER FUNCTION public.by_plpgsql(text) SET search_path" in said
    live.target.sql(with_path)
    live.cutover()
    assert live.target.value("SELECT count(*) FROM low") == 20
