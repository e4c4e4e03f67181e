"""Names and values that contain SQL, formats, escapes and markup, in every place and for every command."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from forked import Forks
from live import LiveRun
from servers import Databases

SCHEMA = "s\"q'; DROP SCHEMA public CASCADE; --"
TABLE = 't%s {} $1 \\x "[bold]" \x1b[31m'
PART = "p\n\t\u202e"
TYPE = "e'\"%("
DOMAIN = "d;--"
KEY = "select"
COLUMN = "c\"'%s{}$1\\"
RENAMED = "n" * 61 + "\u00fc"
LABEL = "o'k\"%s{}\\"
SEQUENCE, CHECK, INDEX, TRIGGER, FUNCTION = ("{0}\"'%s;--\\{0}".replace("{0}", letter) for letter in "abcdf")
DATABASE = "db \"'%s{}\\;--$1"
VALUE = "v'\"\\%s{}$1\n\t;--"


def q(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def lit(value: str) -> str:
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def design(column: str, key: str, extra: str) -> str:
    """The DDL of a side. The sides differ in the name of a column and in the type of the key."""
    table = f"{q(SCHEMA)}.{q(TABLE)}"
    return f"""
CREATE SCHEMA {q(SCHEMA)};
CREATE TYPE {q(SCHEMA)}.{q(TYPE)} AS ENUM ({lit(LABEL)}, 'other');
CREATE DOMAIN {q(SCHEMA)}.{q(DOMAIN)} AS text CHECK (VALUE <> {lit("x;--'")});
CREATE SEQUENCE {q(SCHEMA)}.{q(SEQUENCE)};
CREATE TABLE {table} ({q(KEY)} {key} DEFAULT nextval({lit(f"{q(SCHEMA)}.{q(SEQUENCE)}")}) PRIMARY KEY,
    {q(column)} {q(SCHEMA)}.{q(DOMAIN)} DEFAULT {lit(VALUE)}, kind {q(SCHEMA)}.{q(TYPE)},
    CONSTRAINT {q(CHECK)} CHECK ({q(column)} <> {lit(VALUE + "!")}));
CREATE INDEX {q(INDEX)} ON {table} ({q(column)});
CREATE FUNCTION {q(SCHEMA)}.{q(FUNCTION)}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER {q(TRIGGER)} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {q(SCHEMA)}.{q(FUNCTION)}();
CREATE TABLE {q(SCHEMA)}.{q(KEY)} ({q(KEY)} {key}, day date, up {key} CONSTRAINT {q(CHECK)} REFERENCES {table},
    PRIMARY KEY ({q(KEY)}, day)) PARTITION BY RANGE (day);
CREATE TABLE {q(SCHEMA)}.{q(PART)} PARTITION OF {q(SCHEMA)}.{q(KEY)} FOR VALUES FROM ('2020-01-01') TO ('2030-01-01');
{extra}
"""


ROWS = f"""
INSERT INTO {q(SCHEMA)}.{q(TABLE)} ({q(COLUMN)}, kind)
    SELECT {lit(VALUE)} || n, {lit(LABEL)} FROM generate_series(1, 40) n;
INSERT INTO {q(SCHEMA)}.{q(KEY)} SELECT n, date '2024-01-01' + n, n FROM generate_series(1, 30) n;
"""
MAPPING = {f"{q(SCHEMA)}.{q(TABLE)}": {q(COLUMN): q(RENAMED)}}
NAMES = {f"{q(SCHEMA)}.{q(TABLE)}": COLUMN, f"{q(SCHEMA)}.{q(KEY)}": "up"}


@pytest.fixture(params=["fdw", "copy"])
def live(databases: Databases, tmp_path: Path, request: pytest.FixtureRequest) -> LiveRun:
    old, new = design(COLUMN, "int", ROWS), design(RENAMED, "bigint", "")
    mapping = yaml.safe_dump(MAPPING, allow_unicode=True)
    return LiveRun(
        databases, tmp_path / "p'%s {}", old, new, mapping, chunk_rows=9, strategy=request.param, name=DATABASE
    )


def write(live: LiveRun, side: str, n: int) -> None:
    database, column = {"source": (live.source, COLUMN), "target": (live.target, RENAMED)}[side]
    table = f"{q(SCHEMA)}.{q(TABLE)}"
    database.sql(f"INSERT INTO {table} ({q(column)}) VALUES ({lit(VALUE)} || 'w{n}')")
    database.sql(f"UPDATE {table} SET {q(KEY)} = {1000 + n} WHERE {q(KEY)} = {n}") if n > 35 else None
    database.sql(f"UPDATE {q(SCHEMA)}.{q(KEY)} SET day = day + 400 WHERE {q(KEY)} = {n}")


def test_hostile_names_survive_cutover_and_rollback(live: LiveRun, forks: Forks) -> None:
    live.setup()
    write(live, "source", 1)
    live.migrate()
    write(live, "source", 36)
    live.follow()
    assert live.verify().equal
    live.tamper(f"UPDATE {q(SCHEMA)}.{q(TABLE)} SET {q(RENAMED)} = 'wrong' WHERE {q(KEY)} = 5")
    (difference,) = live.verify().differences
    assert (difference.key, difference.column_name) == ({KEY: "5"}, RENAMED)
    assert live.verify(repair=True).equal
    live.cutover()
    write(live, "target", 3)
    live.rollback()
    write(live, "source", 4)
    assert live.verify().equal
    live.cutover()
    for step in ("plan", "status"):
        words = ["status"] if step == "status" else ["migrate", "schema-to-schema", "plan"]
        done = forks.run([*words, "--target", live.target.conninfo, "--project", str(live.project)], live.project)
        assert done.code in (0, 1), done.err
        assert "\x1b" not in done.out + done.err
        assert "\u202e" not in done.out + done.err
    live.cleanup()
    for table, column in NAMES.items():
        name = RENAMED if column == COLUMN else column
        fields = f"{q(KEY)}, {q(column)}" + (", kind::text" if column == COLUMN else ", day")
        there = f"{q(KEY)}, {q(name)}" + (", kind::text" if column == COLUMN else ", day")
        assert sorted(live.source.rows(f"SELECT {fields} FROM {table}")) == sorted(
            live.target.rows(f"SELECT {there} FROM {table}")
        )
    assert live.target.rows("SELECT nspname FROM pg_namespace WHERE nspname = 'public'") == [("public",)]


def test_abort_of_a_run_with_hostile_names_leaves_nothing_behind(live: LiveRun) -> None:
    live.setup()
    live.migrate()
    live.abort()
    left = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public|confiture$)'"
    assert live.target.rows(left) == []
    assert live.source.rows(left) == [(SCHEMA,)]
