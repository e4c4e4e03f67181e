"""Functions that rely on search_path: the plan refuses them, with the object and the statement that fixes it."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from confiture.commands.plan import preview
from confiture.errors import DataFailure, FaultyInput, Refused
from live import LiveRun
from servers import Databases

OLD = "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT n, 'V' || n FROM generate_series(1, 20) n;"
NEW = """
CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$;
CREATE FUNCTION by_sql(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT plain(t) $$;
CREATE FUNCTION by_plpgsql(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN RETURN plain(t); END $$;
CREATE FUNCTION nests(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT public.by_plpgsql(t) $$;
CREATE TABLE known (v text PRIMARY KEY);
CREATE FUNCTION reads(t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    RETURN (SELECT count(*) = 0 FROM known WHERE known.v = t); END $$;
CREATE FUNCTION same(a text, b text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    RETURN plain(a) = plain(b); END $$;
CREATE OPERATOR ~~~~ (FUNCTION = same, LEFTARG = text, RIGHTARG = text);
CREATE DOMAIN lowered AS text CHECK (by_plpgsql(VALUE) <> '');
"""
TABLE = "CREATE TABLE a (id int PRIMARY KEY, v text);"
CASES = {
    "index": f"{TABLE} CREATE INDEX low ON a (by_plpgsql(v));",
    "predicate": f"{TABLE} CREATE INDEX low ON a (id) WHERE by_plpgsql(v) = 'x';",
    "nested": f"{TABLE} CREATE INDEX low ON a (nests(v));",
    "check": f"{TABLE} ALTER TABLE a ADD CHECK (reads(v));",
    "operator": f"{TABLE} ALTER TABLE a ADD CHECK (v ~~~~ v);",
    "generated": f"{TABLE} ALTER TABLE a ADD low text GENERATED ALWAYS AS (by_plpgsql(v)) STORED;",
    "default": f"{TABLE} ALTER TABLE a ADD made text DEFAULT by_plpgsql('x');",
    "domain": "CREATE TABLE a (id int PRIMARY KEY, v lowered);",
    "partition key": "CREATE TABLE a (id int, v text) PARTITION BY LIST (by_plpgsql(v));"
    " CREATE TABLE a1 PARTITION OF a DEFAULT;",
    "statistics": f"{TABLE} CREATE STATISTICS s ON by_plpgsql(v), id FROM a;",
    "materialized view": f"{TABLE} CREATE VIEW w AS SELECT by_plpgsql(v) AS v FROM a;"
    " CREATE MATERIALIZED VIEW m AS SELECT v FROM w;",
}


def _refused(live: LiveRun) -> str:
    """Why setup refuses. It leaves no database behind."""
    with pytest.raises(Refused) as refused:
        live.setup()
    with pytest.raises(psycopg.OperationalError):
        live.target.value("SELECT 1")
    return str(refused.value.why)


def _fix(text: str) -> str:
    """The statement that the error recommends."""
    found = re.search(r"ALTER FUNCTION .* SET search_path = [\w, ]+", text)
    assert found is not None, text
    return found[0]


#: Whose functions older servers call with the session's search_path: since PostgreSQL 17 they set one of their own.
OF_MAINTENANCE = ("index", "materialized view", "statistics")


@pytest.mark.parametrize(
    ("kind", "case"), [*(("databases", c) for c in CASES), *(("old_databases", c) for c in OF_MAINTENANCE)]
)
def test_plan_names_the_function_and_its_statement_works(
    kind: str, case: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    live = LiveRun(request.getfixturevalue(kind), tmp_path, OLD, NEW + CASES[case])
    fix = _fix(_refused(live))
    (live.project / "db/schema/10/new.sql").write_text(f"{NEW} {fix}; {CASES[case]}")
    live.through()
    assert live.target.rows("SELECT id, v FROM a ORDER BY id") == live.source.rows("SELECT id, v FROM a ORDER BY id")


@pytest.mark.parametrize("language", ["sql", "plpgsql"])
def test_statement_names_the_schema_of_the_extension(databases: Databases, tmp_path: Path, language: str) -> None:
    body = "SELECT unaccent(t)" if language == "sql" else "BEGIN RETURN unaccent(t); END"
    function = f"CREATE FUNCTION f(t text) RETURNS text LANGUAGE {language} IMMUTABLE AS $$ {body} $$;"
    extension = "CREATE SCHEMA tools; CREATE EXTENSION unaccent SCHEMA tools; SET LOCAL search_path = public, tools;"
    new = f"{extension} {function} {TABLE} ALTER TABLE a ADD CHECK (f(v) <> '');"
    live = LiveRun(databases, tmp_path, OLD, new)
    fix = _fix(_refused(live))
    assert fix == "ALTER FUNCTION public.f(text) SET search_path = public, tools, pg_temp"
    (live.project / "db/schema/10/new.sql").write_text(f"{new} {fix};")
    live.through()


def test_branch_that_no_row_takes_is_found_in_a_function_in_sql(databases: Databases, tmp_path: Path) -> None:
    function = """CREATE FUNCTION rare(t text) RETURNS text LANGUAGE sql VOLATILE AS $$
        SELECT CASE WHEN t = 'rare' THEN plain(t) ELSE t END $$;"""
    old = "CREATE TABLE a (id int PRIMARY KEY, v text);"
    live = LiveRun(databases, tmp_path, old, f"{NEW} {function} {TABLE} ALTER TABLE a ADD CHECK (rare(v) <> '');")
    assert "public.rare(text)" in _refused(live)


def test_function_that_one_row_of_the_source_reaches_is_found(databases: Databases, tmp_path: Path) -> None:
    function = """CREATE FUNCTION rare(t text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
        BEGIN IF t = 'V7' THEN RETURN plain(t); END IF; RETURN t; END $$;"""
    live = LiveRun(databases, tmp_path, OLD, f"{NEW} {function} {TABLE} ALTER TABLE a ADD CHECK (rare(v) <> '');")
    assert "public.rare(text)" in _refused(live)


FINE = """
CREATE FUNCTION has_path(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = public
    AS $$ BEGIN RETURN plain(t); END $$;
CREATE FUNCTION atomic(t text) RETURNS text LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT plain(t); END;
CREATE FUNCTION qualified(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN public.plain(t); END $$;
CREATE FUNCTION broken(t text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$ BEGIN
    IF t = 'a' THEN RETURN missing(t); END IF; RETURN t; END $$;
CREATE FUNCTION counted(t text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
    DECLARE n bigint; BEGIN EXECUTE format('SELECT count(*) FROM public.%I', t) INTO n; RETURN n; END $$;
CREATE FUNCTION numbered() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN nextval('public.numbers'); END $$;
CREATE SEQUENCE numbers;
CREATE TABLE a (id int PRIMARY KEY, v text DEFAULT by_plpgsql('x'), n bigint DEFAULT numbered(),
    CHECK (has_path(v) <> ''), CHECK (atomic(v) <> ''), CHECK (qualified(v) <> ''), CHECK (broken(v) <> ''));
CREATE INDEX i ON a (has_path(v), atomic(v), qualified(v));
CREATE MATERIALIZED VIEW m AS SELECT counted('a') AS n;
"""


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
def test_function_that_does_not_rely_on_search_path_is_accepted(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    live = LiveRun(request.getfixturevalue(kind), tmp_path, OLD, NEW + FINE)
    live.plan()
    live.through()
    assert live.target.value("SELECT count(DISTINCT n) FROM a") == 20


def test_checking_a_target_that_exists_changes_nothing(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW + FINE)
    databases.make(live.target.name).sql(NEW + FINE)
    live.plan()
    assert live.target.value("SELECT is_called FROM numbers") is False
    assert live.target.value("SELECT count(*) FROM a") == 0


HELPERS = """
CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$;
CREATE FUNCTION by_sql(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT plain(t) $$;
CREATE FUNCTION by_plpgsql(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN RETURN plain(t); END $$;
"""


@pytest.mark.parametrize(
    ("table", "function"),
    [
        ("{v: {source_column: v, transform: by_sql(v)}}", "by_sql"),
        ("{v: {source_column: v, transform: by_plpgsql(v)}}", "by_plpgsql"),
        ("{$where: \"by_plpgsql(v) <> 'v3'\"}", "by_plpgsql"),
    ],
    ids=["sql", "plpgsql", "where"],
)
@pytest.mark.parametrize("strategy", ["fdw", "copy"])
def test_transform_is_refused_and_its_statement_works(
    databases: Databases, tmp_path: Path, table: str, function: str, strategy: str
) -> None:
    live = LiveRun(databases, tmp_path, OLD + HELPERS, TABLE, f"a: {table}", strategy=strategy)
    with pytest.raises(FaultyInput) as refused:
        live.setup()
    (fault,) = refused.value.faults
    assert f"function public.{function}(text) relies on search_path" in fault.message
    live.source.sql(fault.hint)
    assert all(new["v"] for _, new in preview(live.where, live.choices, "a", 2))
    live.through()


def test_preview_runs_functions_with_the_search_path_of_the_copy(databases: Databases, tmp_path: Path) -> None:
    shows = """CREATE FUNCTION shows(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN RETURN t || current_setting('search_path'); END $$;"""
    mapping = "a: {v: {source_column: v, transform: shows(v)}}"
    live = LiveRun(databases, tmp_path, OLD + shows, TABLE, mapping)
    seen = preview(live.where, live.choices, "a", 3)
    live.up_to_cutover()
    copied = dict(live.target.rows("SELECT id::text, v FROM a"))
    assert {new["id"]: new["v"] for _, new in seen}.items() <= copied.items()


def test_reverse_is_refused_before_the_target_is_built(databases: Databases, tmp_path: Path) -> None:
    mapping = "a: {v: {source_column: v, transform: upper(v), reverse: by_plpgsql(v)}}"
    live = LiveRun(databases, tmp_path, OLD, f"{NEW} {TABLE}", mapping)
    fix = _fix(_refused(live))
    (live.project / "db/schema/10/new.sql").write_text(f"{NEW} {TABLE} {fix};")
    live.through()
    live.target.sql("UPDATE a SET v = 'ABC' WHERE id = 1")
    live.rollback()
    assert live.source.value("SELECT v FROM a WHERE id = 1") == "abc"


def test_reverse_that_is_no_expression_is_refused_before_the_target_is_built(
    databases: Databases, tmp_path: Path
) -> None:
    mapping = "a: {v: {source_column: v, transform: upper(v), reverse: nothing(v)}}"
    live = LiveRun(databases, tmp_path, OLD, TABLE, mapping)
    with pytest.raises(FaultyInput, match="fault"):
        live.plan()


def _late_fix(error: DataFailure) -> str:
    found = re.match(r"(ALTER FUNCTION .* SET search_path = public, pg_temp) \(", error.fix or "")
    assert found is not None, error.fix
    return found[1]


WITH_PATH = "ALTER FUNCTION by_plpgsql SET search_path = public, pg_temp;"


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
def test_error_of_an_index_rebuild_names_a_function_that_was_changed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    new = f"{NEW} {WITH_PATH} {TABLE} CREATE INDEX low ON a (by_plpgsql(v));"
    live = LiveRun(request.getfixturevalue(kind), tmp_path, OLD, new)
    live.setup()
    live.target.sql("ALTER FUNCTION by_plpgsql RESET search_path")
    with pytest.raises(DataFailure) as failed:
        live.migrate()
    assert "by_plpgsql" in failed.value.what
    assert "index low on public.a" in failed.value.what
    live.target.sql(_late_fix(failed.value))
    live.migrate()
    assert live.verify().equal
    live.cutover()


def test_error_of_an_index_in_the_new_schema_names_the_function(databases: Databases, tmp_path: Path) -> None:
    index = "CREATE INDEX low ON a (by_sql(v));"
    live = LiveRun(databases, tmp_path, OLD, f"{NEW} {TABLE} {index}")
    with pytest.raises(DataFailure) as failed:
        live.setup()
    (live.project / "db/schema/10/new.sql").write_text(f"{NEW} {_late_fix(failed.value)}; {TABLE} {index}")
    live.through()
    live.assert_same(a="SELECT * FROM a")


@pytest.mark.parametrize("kind", ["databases", "old_databases"])
def test_error_of_a_row_that_cannot_be_copied_names_the_function(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    new = f"{NEW} {WITH_PATH} {TABLE} ALTER TABLE a ADD CHECK (by_plpgsql(v) <> '');"
    live = LiveRun(request.getfixturevalue(kind), tmp_path, OLD, new, chunk_rows=7, strategy="copy")
    live.setup()
    live.target.sql("ALTER FUNCTION by_plpgsql RESET search_path")
    with pytest.raises(DataFailure) as failed:
        live.migrate()
    assert "by_plpgsql" in failed.value.what
    assert "public.a" in failed.value.what
    live.target.sql(_late_fix(failed.value))
    live.migrate()
    assert live.verify().equal


def test_cutover_names_a_stale_materialized_view_and_its_function(databases: Databases, tmp_path: Path) -> None:
    view = "CREATE MATERIALIZED VIEW low AS SELECT by_plpgsql(v) AS v FROM a;"
    with_path = "ALTER FUNCTION by_plpgsql SET search_path = public, pg_temp;"
    live = LiveRun(databases, tmp_path, OLD, f"{NEW} {TABLE} {with_path} {view}")
    live.up_to_cutover()
    live.target.sql("ALTER FUNCTION by_plpgsql RESET search_path")
    live.cutover()
    said = "\n".join(live.progress.lines)
    assert "materialized view public.low is stale" in said
    assert "ALTER FUNCTION public.by_plpgsql(text) SET search_path" in said
    live.target.sql(with_path)
    live.cutover()
    assert live.target.value("SELECT count(*) FROM low") == 20
