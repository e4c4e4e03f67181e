"""Rows and tables of unusual size: large values, rows of more than 1 GB as text, as many columns as a table may have.

Zeros of type bit varying have eight times as many bytes as text as in binary form, and are stored compressed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.errors import DataFailure, Refused
from live import LiveRun
from servers import Databases

MOOD = "CREATE TYPE mood AS ENUM ('a', 'b');"
#: 1.09 billion bits: 136 MB in binary form, more than 1 GB as text.
BITS = " || ".join(["0::bit(83886080)"] * 13)
#: 180 MB.
BYTES = "convert_to(repeat('0123456789abcdef', 11250000), 'UTF8')"


def test_a_value_too_large_for_postgres_fdw_is_copied_by_copy(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE t (id int PRIMARY KEY, n int, v varbit);"
    run = LiveRun(databases, tmp_path, table, table, strategy="fdw")
    run.source.sql("INSERT INTO t SELECT n, n FROM generate_series(1, 50) n")
    run.source.sql(f"INSERT INTO t VALUES (1000, 1, {BITS})")
    run.setup()
    run.migrate()
    query = "SELECT count(*), sum(id), max(length(v)), sum(bit_count(v)) FROM t"
    assert run.target.rows(query) == run.source.rows(query)
    # It is compared as text, which no server can build.
    with pytest.raises(DataFailure, match="too large to be transferred: id = 1000, column v"):
        run.verify()
    run.source.sql("DELETE FROM t WHERE id = 1000")
    assert run.verify().equal


@pytest.mark.parametrize("strategy", ["fdw", "copy"])
def test_a_row_too_large_as_text_is_named_by_the_copy(databases: Databases, tmp_path: Path, strategy: str) -> None:
    table = f"{MOOD} CREATE TABLE t (id int PRIMARY KEY, m mood, v varbit);"
    run = LiveRun(databases, tmp_path, table, table, strategy=strategy)
    run.source.sql(f"INSERT INTO t VALUES (1, 'a', B'1'), (7, 'a', {BITS}), (8, 'a', B'1')")
    run.setup()
    with pytest.raises(DataFailure) as failed:
        run.migrate()
    assert "id = 7, column v" in failed.value.what
    assert "shorten the value on the source" in failed.value.fix
    run.source.sql("UPDATE t SET v = B'0' WHERE id = 7")
    run.migrate()
    assert run.verify().equal
    run.cutover()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_row_that_became_too_large_is_named_by_follow(databases: Databases, tmp_path: Path, direction: str) -> None:
    table = f"{MOOD} CREATE TABLE t (id int PRIMARY KEY, m mood, v varbit);"
    run = LiveRun(databases, tmp_path, table, table)
    run.source.sql("INSERT INTO t VALUES (1, 'a', B'1'), (7, 'a', B'1')")
    run.up_to_cutover()
    if direction == "reverse":
        run.cutover()
    written = run.source if direction == "forward" else run.target
    written.sql(f"UPDATE t SET v = B'0' WHERE id = 1; UPDATE t SET v = {BITS} WHERE id = 7")
    with pytest.raises(DataFailure, match="too large to be transferred: id = 7, column v"):
        run.follow()
    written.sql("UPDATE t SET v = B'0' WHERE id = 7")
    run.follow()
    assert run.source.rows("SELECT * FROM t ORDER BY id") == run.target.rows("SELECT * FROM t ORDER BY id")


def test_a_row_of_more_than_one_gigabyte_is_refused_by_plan(databases: Databases, tmp_path: Path) -> None:
    table = f"{MOOD} CREATE TABLE t (id int PRIMARY KEY, a bytea, b bytea, c bytea, m mood);"
    run = LiveRun(databases, tmp_path, table, table)
    run.source.sql("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 10) n")
    run.source.sql(f"INSERT INTO t VALUES (1000, {BYTES}); UPDATE t SET b = a, c = a WHERE id = 1000")
    with pytest.raises(Refused, match="the plan is refused") as refused:
        run.setup()
    assert "a row of public.t (id = 1000) has 1,080,0" in refused.value.why
    assert "column c (360,000,002 bytes)" in refused.value.why
    (tmp_path / "mapping.yaml").write_text('t: {$where: "id <> 1000"}\n')
    run.through()
    assert run.target.value("SELECT count(*) FROM t") == 10


def test_a_long_value_that_differs_is_shown_by_length_and_digest(databases: Databases, tmp_path: Path) -> None:
    columns = {"b": "bytea", "t": "text", "v": "varchar", "j": "jsonb", "short": "text"}
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    old = f"CREATE TABLE t (id int PRIMARY KEY, {declared}); CREATE TABLE keyless (b bytea)"
    run = LiveRun(databases, tmp_path, old, old)
    text = "repeat('{}', 2000000)"
    values = f"convert_to({text}, 'UTF8'), {text}, {text}, to_jsonb({text}), 'short {{}}'"
    for value in ("x", "y"):
        run.source.sql(f"INSERT INTO t VALUES ({ord(value)}, {values.replace('{}', value)})".replace("{}", value))
    run.source.sql("INSERT INTO keyless SELECT b FROM t")
    run.up_to_cutover(capture=False)
    run.tamper(f"UPDATE t SET (b, t, v, j, short) = ({values.replace('{}', 'z')}) WHERE id = 120; DELETE FROM keyless")
    found = {d.column_name: d for d in run.verify().differences if d.subject == "public.t"}
    assert found.keys() == columns.keys()
    assert found["b"].source_value == f"2000000 bytes, MD5 {run.source.value('SELECT md5(b) FROM t WHERE id = 120')}"
    assert str(found["j"].target_value).startswith("2000002 bytes, MD5 ")
    assert (found["short"].source_value, found["short"].target_value) == ("short x", "short z")


def test_large_values_count_for_the_size_of_a_table(databases: Databases, tmp_path: Path) -> None:
    old = """
    CREATE TABLE wide (id int PRIMARY KEY, b bytea); CREATE TABLE keyless (b bytea); CREATE TABLE few (b bytea);
    ALTER TABLE wide ALTER b SET STORAGE EXTERNAL; ALTER TABLE keyless ALTER b SET STORAGE EXTERNAL;
    INSERT INTO wide SELECT n, convert_to(repeat('x', 1048576), 'UTF8') FROM generate_series(1, 66) n;
    INSERT INTO keyless SELECT b FROM wide; INSERT INTO few SELECT b FROM wide LIMIT 1;
    """
    run = LiveRun(databases, tmp_path, old, old)
    with pytest.raises(Refused, match="writes cannot be captured") as refused:
        run.plan()
    assert "keyless" in refused.value.why
    assert "few" not in refused.value.why
    wide = next(t for t in run.plan(recopy_mb=100).tables if t.source.name == "wide")
    assert wide.fetch_rows <= 4
    assert wide.chunk_rows < 100
    assert wide.estimate_bytes > 66 * 2**20


# Columns -------------------------------------------------------------------------------------------

#: As many columns as a table may have.
FLAGS = ", ".join(f"f{n} bool" for n in range(1598))


@pytest.mark.parametrize("capture", [True, False], ids=["captured", "not captured"])
def test_a_table_with_as_many_columns_as_possible_is_moved(databases: Databases, tmp_path: Path, capture: bool) -> None:
    old = (
        f"CREATE TABLE w (a int, b varchar(9), {FLAGS}, PRIMARY KEY (b, a)); CREATE TABLE k (f bool, {FLAGS}, g bool);"
    )
    new = old.replace("f1597 bool", "renamed bool").replace("varchar(9)", "varchar(20)")
    mapping = "w: {f1597: renamed}\nk: {f1597: renamed}\n"
    run = LiveRun(databases, tmp_path, old, new, mapping, chunk_rows=20)
    run.source.sql("INSERT INTO w SELECT n, 'k' || n % 3, true FROM generate_series(1, 100) n")
    run.source.sql("UPDATE w SET f1597 = true WHERE a > 50; INSERT INTO k VALUES (true), (false)")
    run.setup(capture=capture)
    run.migrate()
    if capture:
        run.source.sql(
            "UPDATE w SET f1596 = true WHERE a = 3; DELETE FROM w WHERE a = 4; INSERT INTO w VALUES (999, 'k')"
        )
    assert run.verify().equal
    run.cutover()
    run.assert_same(w="SELECT * FROM w", k="SELECT * FROM k")


def test_a_wide_table_is_rolled_back(databases: Databases, tmp_path: Path) -> None:
    table = f"CREATE TABLE w (a int PRIMARY KEY, b int, {FLAGS});"
    run = LiveRun(databases, tmp_path, table, table)
    run.source.sql("INSERT INTO w SELECT n FROM generate_series(1, 10) n")
    run.through()
    run.target.sql("UPDATE w SET f1597 = true WHERE a = 3; DELETE FROM w WHERE a = 4; INSERT INTO w VALUES (99)")
    run.rollback()
    run.assert_same(w="SELECT * FROM w")
    assert run.source.value("SELECT sum(a) FROM w") == 55 - 4 + 99


def test_a_wide_table_whose_key_changes_its_type_is_refused(databases: Databases, tmp_path: Path) -> None:
    table = f"CREATE TABLE w (a int PRIMARY KEY, b int, {FLAGS});"
    run = LiveRun(databases, tmp_path, table, table.replace("a int", "a bigint"))
    with pytest.raises(Refused) as refused:
        run.setup()
    assert "key column a has another type than a: give both the same type" in refused.value.why
    (tmp_path / "db/schema/10/new.sql").write_text(table)
    run.through()
