"""The expressions of a mapping: each must give the same value whenever it reads the same row."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.errors import FaultyInput
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz NOT NULL DEFAULT '2020-02-29 12:00Z');
CREATE TABLE other (id int PRIMARY KEY);
CREATE SEQUENCE numbers;
CREATE FUNCTION changing(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION depending(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1';
INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 5) n;
"""
NEW = "CREATE TABLE t (id bigint PRIMARY KEY, v text)"
MAPPING = """
$omit: [other]
t: {{$omit: [at], v: {{source_column: v, transform: "{}"}}}}
"""


def run_with(databases: Databases, folder: Path, expression: str) -> LiveRun:
    return LiveRun(databases, folder, OLD, NEW, MAPPING.format(expression))


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("v || random()", "calls the volatile function random"),
        ("v || clock_timestamp()", "calls the volatile function clock_timestamp"),
        ("public.changing(v)", "calls the volatile function public.changing"),
        ("v || now()", "calls the stable function now"),
        ("public.depending(v)", "calls the stable function public.depending"),
        ("v || current_setting('application_name')", "calls the stable function current_setting"),
        ("v || CURRENT_TIMESTAMP", "depends on the current time or role"),
        ("v || CURRENT_USER", "depends on the current time or role"),
        ("v || nextval('numbers')", "calls the volatile function nextval"),
        ("regexp_split_to_table(v, ',')", "calls regexp_split_to_table, which returns a set"),
        ("max(v)", "calls the aggregate max"),
        ("v || row_number() OVER ()", "calls the window function row_number"),
    ],
)
def test_an_expression_whose_value_may_change_is_refused(
    databases: Databases, tmp_path: Path, expression: str, reason: str
) -> None:
    with pytest.raises(FaultyInput) as refused:
        run_with(databases, tmp_path, expression).plan()
    assert reason in "\n".join(refused.value.lines())


@pytest.mark.parametrize(
    "expression",
    [
        "v || (SELECT max(id) FROM other)",
        "CASE WHEN EXISTS (SELECT FROM other o WHERE o.id = t.id) THEN v END",
        "array_to_string(ARRAY(SELECT id FROM other), ',')",
    ],
)
def test_an_expression_that_reads_another_table_is_refused(
    databases: Databases, tmp_path: Path, expression: str
) -> None:
    with pytest.raises(FaultyInput) as refused:
        run_with(databases, tmp_path, expression).plan()
    assert "reads other tables in a subquery" in "\n".join(refused.value.lines())


def test_a_stable_function_that_depends_on_the_session_profile_is_accepted(
    databases: Databases, tmp_path: Path
) -> None:
    live = run_with(databases, tmp_path, "v || to_char(at, 'YYYY-MM-DD') || date_trunc('day', at)")
    live.through()
    assert live.target.value("SELECT v FROM t WHERE id = 1") == "v12020-02-292020-02-29 00:00:00+00"


APART = """
CREATE SCHEMA "New"; CREATE TABLE "New".person (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE "New".mail (id int PRIMARY KEY, box text NOT NULL);
"""
PEOPLE = """
CREATE TABLE person (id int PRIMARY KEY, first text NOT NULL, last text NOT NULL, mail text NOT NULL);
INSERT INTO person SELECT n, 'F' || n, 'L' || n, n || '@x.org' FROM generate_series(1, 5) n;
"""
ENTRIES = """
'"New".person':
  name: {{transform: "{name}"}}
  $where: "{where}"
'"New".mail':
  $from: person
  box: {{transform: "{box}"}}
"""


@pytest.mark.parametrize(
    "changed", [{"name": "first || random()"}, {"where": "random() < 2"}, {"box": "mail || random()"}]
)
def test_an_expression_is_checked_when_its_table_changes_its_schema(
    databases: Databases, tmp_path: Path, changed: dict[str, str]
) -> None:
    given = {"name": "first || ' ' || last", "where": "id < 5", "box": "split_part(mail, '@', 1)"} | changed
    with pytest.raises(FaultyInput) as refused:
        LiveRun(databases, tmp_path, PEOPLE, APART, ENTRIES.format(**given)).plan()
    assert "calls the volatile function random" in "\n".join(refused.value.lines())


def test_the_columns_that_a_split_into_another_schema_reads_are_known(databases: Databases, tmp_path: Path) -> None:
    given = {"name": "first || ' ' || last", "where": "id < 5", "box": "split_part(mail, '@', 1)"}
    live = LiveRun(databases, tmp_path, PEOPLE, APART, ENTRIES.format(**given))
    live.setup()
    live.migrate()
    live.source.sql("UPDATE person SET last = 'changed', mail = 'new@x.org' WHERE id = 4")
    assert live.verify().equal
    live.cutover()
    assert live.target.value('SELECT name FROM "New".person WHERE id = 4') == "F4 changed"
    assert live.target.value('SELECT box FROM "New".mail WHERE id = 4') == "new"
    assert live.target.value('SELECT count(*) FROM "New".person') == 4


def test_a_column_that_neither_part_of_a_split_reads_is_a_fault(databases: Databases, tmp_path: Path) -> None:
    given = {"name": "first", "where": "id < 5", "box": "mail"}
    with pytest.raises(FaultyInput) as refused:
        LiveRun(databases, tmp_path, PEOPLE, APART, ENTRIES.format(**given)).plan()
    said = "\n".join(refused.value.lines())
    assert "source column public.person.last has no counterpart" in said
    assert "person.mail" not in said
    assert "person.first" not in said
