"""A key is also unique in the target: no change of a row affects another row, and no row without a key is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from psycopg import sql

from confiture.capture import apply
from confiture.config import Database
from confiture.copy import chunks
from confiture.copy.run_table import RunTable
from confiture.errors import Blocked, FaultyInput, Refused
from confiture.postgres.session import Session
from confiture.types import KeyRange
from live import LiveRun
from servers import Databases

INSENSITIVE = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
TYPES = "CREATE EXTENSION IF NOT EXISTS citext; CREATE DOMAIN mail AS citext;"

#: The type in the source, the type in the target, a key that stays, and a deleted key that equals it in the target.
EQUAL_IN_THE_TARGET = {
    "case by citext": ("text", "citext", "'bob@x'", "'BOB@x'"),
    "case by a domain over citext": ("text", "mail", "'bob@x'", "'BOB@x'"),
    "blanks cut by char": ("text", "char(8)", "'bob'", "'bob  '"),
    "blanks cut by bpchar": ("varchar(8)", "bpchar", "'bob'", "'bob  '"),
    "an end cut by name": ("text", "name", "repeat('b', 63)", "repeat('b', 64)"),
    "a number without scale": ("int", "numeric", "7", "8"),
}


def table(kind: str, name: str = "t") -> str:
    return f"CREATE TABLE {name} (k {kind} PRIMARY KEY, v text);"


def keys_come_and_go(live: LiveRun, **keys: str) -> None:
    """Run setup to cutover. Insert and delete another row of each table in between, in one pass and in two."""
    live.up_to_cutover()
    for name, key in keys.items():
        live.source.sql(f"INSERT INTO {name} VALUES ({key}, 'other'); DELETE FROM {name} WHERE k = {key}")
    live.follow()
    live.cutover()
    for name in keys:
        kind = live.target.value(
            f"SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{name}'::regclass"
            " AND attnum = 1"
        )
        assert live.target.rows(f"SELECT * FROM {name}") == live.source.rows(f"SELECT k::{kind}, v FROM {name}")
        assert live.target.value(f"SELECT v FROM {name}") == "stays"


def test_deleting_a_row_keeps_one_whose_key_is_equal_in_the_target(databases: Databases, tmp_path: Path) -> None:
    cases = {f"t{n}": case for n, case in enumerate(EQUAL_IN_THE_TARGET.values())}
    filled = "".join(
        f"{table(old, name)} INSERT INTO {name} VALUES ({stays}, 'stays');"
        for name, (old, _, stays, _) in cases.items()
    )
    empty = "".join(table(new, name) for name, (_, new, _, _) in cases.items())
    live = LiveRun(databases, tmp_path, TYPES + filled, TYPES + empty)
    assert [(planned.key, planned.recopied) for planned in live.plan().tables] == [((), True)] * len(cases)
    keys_come_and_go(live, **{name: goes for name, (_, _, _, goes) in cases.items()})


def test_deleting_a_row_keeps_one_made_equal_by_a_target_collation(old_databases: Databases, tmp_path: Path) -> None:
    old = table("text") + "INSERT INTO t VALUES ('bob@x', 'stays');"
    live = LiveRun(old_databases, tmp_path, old, INSENSITIVE + table("text COLLATE ci"))
    (planned,) = live.plan().tables
    assert "nondeterministic collation ci" in planned.key_reason
    keys_come_and_go(live, t="'BOB@x'")


def test_collation_changed_after_the_plan_deletes_no_other_row(old_databases: Databases, tmp_path: Path) -> None:
    old = table("text") + "INSERT INTO t VALUES ('bob@x', 'stays');"
    live = LiveRun(old_databases, tmp_path, old, INSENSITIVE + table("text"))
    live.setup()
    live.migrate()
    live.tamper("ALTER TABLE t ALTER k TYPE text COLLATE ci")
    live.source.sql("INSERT INTO t VALUES ('BOB@x', 'other'); DELETE FROM t WHERE k = 'BOB@x'")
    with pytest.raises(Blocked, match=r"target table public\.t was changed"):
        live.follow()
    # A pass deletes by the bytes of the key, whatever the fingerprint says.
    live.target.sql(f"DELETE FROM {live.target.run_schema}.fingerprint")
    live.follow()
    live.assert_same(t="SELECT * FROM t")


def test_large_table_whose_key_is_not_unique_in_the_target_is_refused(databases: Databases, tmp_path: Path) -> None:
    old = table("text") + "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g;"
    live = LiveRun(databases, tmp_path, old, TYPES + table("mail"), recopy_mb=0)
    with pytest.raises(Refused, match="cannot be captured") as refused:
        live.plan()
    assert "k is copied to k, which has type public.mail" in refused.value.why


def test_a_requested_key_that_is_no_key_in_the_target_is_a_fault(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, table("text"), table("char(8)"), "t:\n  $key: [k]\n")
    with pytest.raises(FaultyInput, match="1 fault") as refused:
        live.plan()
    assert "text to character(8), which may make different keys equal" in refused.value.why


#: The type of the key in the source and in the target, and a key; also in reverse, different keys stay different.
DISTINGUISHED_IN_BOTH_DIRECTIONS = [("text", 'text COLLATE "C"', "'a '"), ("int", "bigint", "1")]
DISTINGUISHED_IN_ONE_DIRECTION = [
    ("int", "text", "1"),
    ("int", "numeric(10,2)", "1"),
    ("macaddr", "macaddr8", "'08:00:2b:01:02:03'"),
    ("date", "timestamp", "'2020-01-01'"),
    ("char(5)", "text", "'a'"),
    ("uuid", "varchar(40)", "'f47ac10b-58cc-4372-a567-0e02b2c3d479'"),
]


@pytest.mark.parametrize(
    ("keys", "reversible"), [(DISTINGUISHED_IN_BOTH_DIRECTIONS, True), (DISTINGUISHED_IN_ONE_DIRECTION, False)]
)
def test_a_key_whose_image_distinguishes_all_keys_is_captured(
    databases: Databases, tmp_path: Path, keys: list[tuple[str, str, str]], reversible: bool
) -> None:
    names = [f"t{number}" for number in range(len(keys))]

    def set_each(value: str) -> str:
        return ";".join(f"UPDATE {name} SET v = '{value}'" for name in names)

    cases = list(zip(names, keys, strict=True))
    filled = "".join(f"{table(old, name)} INSERT INTO {name} VALUES ({key}, 'a');" for name, (old, _, key) in cases)
    live = LiveRun(databases, tmp_path, filled, "".join(table(new, name) for name, (_, new, _) in cases))
    planned = {p.target.name: p for p in live.plan().tables}
    assert {name: (len(p.key), p.arbiter) for name, p in planned.items()} == {n: (1, f"{n}_pkey") for n in names}
    live.setup()
    live.migrate()
    live.source.sql(set_each("b"))
    live.follow()
    live.tamper(set_each("wrong"))
    assert {d.subject for d in live.verify().differences} == {f"public.{name}" for name in names}
    assert live.verify(repair=True).equal
    live.source.sql(set_each("c"))
    live.cutover()
    assert [live.target.value(f"SELECT v FROM {name}") for name in names] == ["c"] * len(names)
    assert {planned[name].rollback_problem is None for name in names} == {reversible}
    if reversible:
        live.target.sql(set_each("d"))
        live.follow()
        assert [live.source.value(f"SELECT v FROM {name}") for name in names] == ["d"] * len(names)


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        ("k text PRIMARY KEY", "text to uuid, which may make different keys equal"),
        ("k uuid UNIQUE", "may be NULL in the target"),
        ("k uuid PRIMARY KEY", None),
    ],
)
def test_rollback_needs_a_key_that_distinguishes_rows_written_later(
    databases: Databases, tmp_path: Path, new: str, problem: str | None
) -> None:
    live = LiveRun(databases, tmp_path, table("uuid"), f"CREATE TABLE t ({new}, v text)")
    (planned,) = live.plan().tables
    assert planned.key
    assert problem in (planned.rollback_problem or "") if problem else planned.rollback_problem is None


# Indexes -------------------------------------------------------------------------------------------

#: An index on a table with NOT NULL columns k and v that does not find each row by ``=``.
OTHER_INDEXES = {
    "another collation": 'CREATE UNIQUE INDEX i ON t (k COLLATE "POSIX")',
    "another operator class": "CREATE UNIQUE INDEX i ON t (k text_pattern_ops)",
    "a class of the user's": "CREATE FUNCTION cmp(text, text) RETURNS int IMMUTABLE LANGUAGE sql"
    " AS 'SELECT bttextcmp(lower($1), lower($2))';"
    " CREATE FUNCTION same(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT lower($1) = lower($2)';"
    " CREATE OPERATOR === (FUNCTION = same, LEFTARG = text, RIGHTARG = text);"
    " CREATE OPERATOR CLASS ci_ops FOR TYPE text USING btree AS OPERATOR 3 ===, FUNCTION 1 cmp(text, text);"
    " CREATE UNIQUE INDEX i ON t (k ci_ops)",
    "a part of the rows": "CREATE UNIQUE INDEX i ON t (k) WHERE v <> ''",
    "checked at the end": "ALTER TABLE t ADD UNIQUE (k) DEFERRABLE",
    "ranges that exclude each other": "ALTER TABLE t ADD EXCLUDE USING gist (int4range(1, 2) WITH &&)",
}
BARE = "CREATE TABLE t (k text NOT NULL, v text NOT NULL);"


@pytest.mark.parametrize("version", ["databases", "old_databases"])
@pytest.mark.parametrize("index", OTHER_INDEXES.values(), ids=OTHER_INDEXES.keys())
def test_an_index_that_does_not_find_each_row_is_neither_key_nor_arbiter(
    request: pytest.FixtureRequest, tmp_path: Path, version: str, index: str
) -> None:
    databases: Databases = request.getfixturevalue(version)
    (planned,) = LiveRun(databases, tmp_path / "key", BARE + index, BARE + index).plan().tables
    assert planned.key == ()
    (planned,) = LiveRun(databases, tmp_path / "arbiter", table("text"), BARE + index).plan().tables
    assert (len(planned.key), planned.arbiter) == (1, None)


@pytest.mark.parametrize("index", ["(k) INCLUDE (v)", "(k) NULLS NOT DISTINCT", "(k DESC)"])
def test_an_index_that_finds_each_row_is_key_and_arbiter(databases: Databases, tmp_path: Path, index: str) -> None:
    ddl = BARE + f"CREATE UNIQUE INDEX i ON t {index}"
    (planned,) = LiveRun(databases, tmp_path, ddl, ddl).plan().tables
    assert (len(planned.key), planned.arbiter) == (1, "i")


def test_a_temporal_key_is_neither_key_nor_arbiter(databases: Databases, tmp_path: Path) -> None:
    columns = "CREATE EXTENSION btree_gist; CREATE TABLE t (id int, at daterange, v text, PRIMARY KEY (id, at{}));"
    temporal = columns.format(" WITHOUT OVERLAPS")
    filled = "INSERT INTO t VALUES (1, '[2020-01-01,2021-01-01)', 'a'), (1, '[2021-01-01,2022-01-01)', 'b');"
    live = LiveRun(databases, tmp_path, temporal + filled, temporal)
    (planned,) = live.plan().tables
    assert (planned.key, planned.arbiter, planned.recopied) == ((), None, True)
    live.up_to_cutover()
    live.source.sql("UPDATE t SET v = 'c' WHERE lower(at) < '2020-06-01'")
    live.cutover()
    live.assert_same(t="SELECT * FROM t")


def test_a_pass_finds_the_rows_of_a_text_key_by_the_index(databases: Databases, tmp_path: Path) -> None:
    rows = "INSERT INTO t SELECT n, n FROM generate_series(1, 10000) n;"
    live = LiveRun(databases, tmp_path, table("text") + rows, table("text"))
    job = RunTable(live.plan().tables[0], "x")
    live.setup()
    live.migrate()
    with live.target.connect() as connection:
        connection.execute("SET search_path = pg_catalog; SET enable_seqscan = off; SET enable_hashjoin = off")
        connection.execute("SET enable_mergejoin = off; CREATE TEMP TABLE keys (k1 text)")
        explain = sql.SQL("EXPLAIN DELETE FROM {} t USING pg_temp.keys k WHERE {}")
        plan = connection.execute(explain.format(job.target, apply.matches(job))).fetchall()
    assert any("Index Cond" in line for (line,) in plan), plan


# NULL ----------------------------------------------------------------------------------------------

NULLABLE = "CREATE TABLE t (code text UNIQUE, n int);"
ROWS = "INSERT INTO t SELECT g, g FROM generate_series(1, {}) g; INSERT INTO t VALUES (NULL, -1), (NULL, -2);"
NOT_VALID = "ALTER TABLE t ADD CONSTRAINT code_there NOT NULL code NOT VALID;"
#: Tables whose key column holds a NULL despite a NOT NULL, each with whether it needs PostgreSQL 18.
UNPROVED = {
    "not validated, two bounds": (True, NULLABLE + ROWS.format(2500) + NOT_VALID),
    "not validated, three bounds": (True, NULLABLE + ROWS.format(3000) + NOT_VALID),
    "not validated in a partition": (
        True,
        "CREATE TABLE t (code text, n int) PARTITION BY RANGE (n); CREATE TABLE t1 (code text, n int);"
        "INSERT INTO t1 SELECT g, g FROM generate_series(1, 2500) g; INSERT INTO t1 VALUES (NULL, 1), (NULL, 2);"
        "ALTER TABLE t1 ADD CONSTRAINT code_there NOT NULL code NOT VALID;"
        "ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (9999); ALTER TABLE t ADD UNIQUE (code, n);"
        "ALTER TABLE t ALTER n SET NOT NULL; ALTER TABLE t ALTER code SET NOT NULL;",
    ),
    "a domain's alone": (
        False,
        "CREATE DOMAIN code AS text NOT NULL; CREATE TABLE t (code code UNIQUE, n int);"
        "INSERT INTO t SELECT g::text, g FROM generate_series(1, 2500) g;"
        "INSERT INTO t VALUES ((SELECT code FROM t WHERE false), -1), ((SELECT code FROM t WHERE false), -2);",
    ),
}


@pytest.mark.parametrize("version", ["databases", "old_databases"])
def test_a_row_whose_key_is_null_behind_a_not_null_arrives(
    request: pytest.FixtureRequest, tmp_path: Path, version: str
) -> None:
    # Before PostgreSQL 18, NOT NULL is always validated.
    cases = [ddl for new, ddl in UNPROVED.values() if not new or version == "databases"]
    tables = [f"t{n}" for n, _ in enumerate(cases)]
    old = "".join(re.sub(r"\bt(1?)\b", rf"{name}\1", ddl) for name, ddl in zip(tables, cases, strict=True))
    target = "".join(f"CREATE TABLE {name} (code text, n int, UNIQUE (code, n));" for name in tables)
    live = LiveRun(request.getfixturevalue(version), tmp_path, old, target, chunk_rows=1000)
    for planned in live.plan().tables:
        assert (planned.key, planned.key_reason) == ((), "code may be NULL")
    live.up_to_cutover()
    for name in tables:
        live.source.sql(f"INSERT INTO {name} VALUES ('new', 9000); DELETE FROM {name} WHERE code = '7'")
    live.follow()
    live.cutover()
    live.assert_same(**{name: f"SELECT * FROM {name}" for name in tables})


@pytest.mark.parametrize("version", ["databases", "old_databases"])
def test_a_key_that_becomes_null_is_an_error_until_it_is_fixed(
    request: pytest.FixtureRequest, tmp_path: Path, version: str
) -> None:
    ddl = "CREATE TABLE t (code text NOT NULL UNIQUE, n int)"
    live = LiveRun(request.getfixturevalue(version), tmp_path, f"{ddl}; INSERT INTO t VALUES ('a', 1), ('b', 2)", ddl)
    live.setup()
    live.migrate()
    live.source.sql("ALTER TABLE t ALTER code DROP NOT NULL; UPDATE t SET code = NULL WHERE n = 2")
    with pytest.raises(Refused, match=r"public\.t"):
        live.follow()
    assert live.target.rows("SELECT * FROM t ORDER BY n") == [("a", 1), ("b", 2)]
    live.source.sql("UPDATE t SET code = 'c' WHERE n = 2; ALTER TABLE t ALTER code SET NOT NULL")
    live.follow()
    assert live.verify().equal
    live.cutover()
    live.assert_same(t="SELECT * FROM t")


def test_a_null_is_never_the_bound_of_a_range(databases: Databases, tmp_path: Path) -> None:
    """The catalog reported NOT NULL when the table was planned."""
    ddl = "CREATE TABLE t (code text NOT NULL UNIQUE, n int)"
    live = LiveRun(databases, tmp_path, ddl, ddl)
    job = RunTable(live.plan().tables[0], "x")
    live.source.sql("ALTER TABLE t ALTER code DROP NOT NULL; INSERT INTO t VALUES ('a', 1), (NULL, 2), (NULL, 3)")
    everything = KeyRange(None, None)
    with Session(Database("source", live.source.conninfo), "test") as session, session.transaction() as tx:
        for bound in (
            lambda: chunks.middle_key(tx, job, everything),
            lambda: chunks.key_after(tx, job, everything, 2),
            lambda: chunks._bounds(tx, job, None, 1, 20),
        ):
            with pytest.raises(Refused, match=r"public\.t has a NULL in its key") as refused:
                bound()
            assert 'SELECT * FROM public.t WHERE "code" IS NULL' in refused.value.fix
        assert chunks.key_after(tx, job, everything, 0) == ("a",)


@pytest.mark.parametrize("version", ["databases", "old_databases"])
def test_a_truncate_of_a_table_whose_key_is_of_a_not_null_domain_arrives(
    request: pytest.FixtureRequest, tmp_path: Path, version: str
) -> None:
    ddl = "CREATE DOMAIN code AS varchar(9) NOT NULL; CREATE TABLE t (k code PRIMARY KEY, v text);"
    live = LiveRun(
        request.getfixturevalue(version), tmp_path, ddl + "INSERT INTO t VALUES ('a', 'x'), ('b', 'y');", ddl
    )
    live.setup()
    live.migrate()
    live.source.sql("TRUNCATE t; INSERT INTO t VALUES ('b', 'z')")
    live.follow()
    live.assert_same(t="SELECT * FROM t")
    assert live.verify().equal
    live.cutover()
    live.target.sql("TRUNCATE t; INSERT INTO t VALUES ('c', 'after')")
    live.rollback()
    assert live.source.rows("SELECT * FROM t") == [("c", "after")]
