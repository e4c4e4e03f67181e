"""Sources in another encoding than UTF8: each text arrives converted, or its row is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.commands.endpoints import Endpoints
from confiture.commands.plan import preview
from confiture.errors import DataFailure, Refused
from live import LiveRun
from servers import Databases

BY_ID = "CREATE TABLE a (id int PRIMARY KEY, v text, w text)"
BY_TEXT = "CREATE TABLE a (id int, v text PRIMARY KEY, w text)"
#: The word café in LATIN1, which is not valid UTF-8.
SPOIL = r"UPDATE a SET v = E'caf\351' WHERE id = 23"
CONVERTED = "convert_from(convert(convert_to(v, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'UTF8')"


def run_from(
    encoding: str,
    databases: Databases,
    folder: Path,
    table: str = BY_ID,
    *,
    strategy: str = "copy",
    mapping: str = "",
    capture: bool | None = None,
) -> LiveRun:
    """A run from a source in an encoding to a target in UTF8."""
    live = LiveRun(
        databases,
        folder,
        "SELECT 1",
        table,
        mapping,
        strategy=strategy,
        chunk_rows=7,
        capture=capture,
    )
    live.source = databases.make(options=f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    live.source.sql(f"{table}; INSERT INTO a SELECT n, 'v' || n, 'w' FROM generate_series(1, 50) n")
    live.where = Endpoints(live.target.conninfo, live.source.conninfo, folder)
    return live


def set_up(live: LiveRun) -> None:
    live.setup(encoding="UTF8", locale="C", capture=live.choices.capture)


def bytes_of(live: LiveRun, key: int) -> bytes:
    return bytes(live.target.value(f"SELECT convert_to(v, 'UTF8') FROM a WHERE id = {key}"))


@pytest.mark.parametrize("strategy", ["copy", "fdw"])
@pytest.mark.parametrize(
    ("table", "place"),
    [
        (BY_ID, "id = 23, column v"),
        (BY_TEXT, r"v = \x636166e9, column v"),
        (BY_TEXT.replace("v text PRIMARY KEY", "v text").replace("w text", "w text, PRIMARY KEY (id, v)"), "column v"),
        (BY_ID.replace(" PRIMARY KEY", ""), "key unknown, column v"),
    ],
    ids=["value", "key", "part of the key", "no key"],
)
def test_copy_names_the_row_whose_text_is_not_valid(
    databases: Databases, tmp_path: Path, strategy: str, table: str, place: str
) -> None:
    live = run_from("SQL_ASCII", databases, tmp_path, table, strategy=strategy)
    live.source.sql(SPOIL)
    set_up(live)
    with pytest.raises(DataFailure) as failed:
        live.migrate()
    assert failed.value.what.startswith("a row of public.a does not fit into public.a: ")
    assert failed.value.what.endswith(place)
    live.source.sql("UPDATE a SET v = 'fixed' WHERE id = 23")
    live.migrate()
    assert live.verify().equal


@pytest.mark.parametrize("strategy", ["copy", "fdw"])
def test_copy_names_a_character_that_the_target_lacks(databases: Databases, tmp_path: Path, strategy: str) -> None:
    live = run_from("WIN1252", databases, tmp_path, strategy=strategy)
    live.source.sql(r"UPDATE a SET w = E'\201' WHERE id = 9")
    set_up(live)
    with pytest.raises(DataFailure, match="id = 9, column w") as failed:
        live.migrate()
    assert "transform" not in str(failed.value.fix)


@pytest.mark.parametrize("table", [BY_ID, BY_TEXT], ids=["value", "key"])
def test_pass_names_the_row_and_continues_once_it_is_fixed(databases: Databases, tmp_path: Path, table: str) -> None:
    live = run_from("SQL_ASCII", databases, tmp_path, table)
    set_up(live)
    live.migrate()
    live.source.sql(SPOIL)
    with pytest.raises(DataFailure) as failed:
        live.follow()
    assert failed.value.what.endswith("id = 23, column v" if table == BY_ID else r"v = \x636166e9, column v")
    with pytest.raises(DataFailure, match="column v"):
        live.verify()
    # The log still has the key that is no text. The target has never had such a row.
    live.source.sql("UPDATE a SET v = 'fixed' WHERE id = 23")
    live.follow()
    assert live.verify().equal
    live.cutover()
    assert live.target.value("SELECT v FROM a WHERE id = 23") == "fixed"
    assert live.target.value("SELECT count(*) FROM a") == 50


def test_verification_names_the_row_whose_text_is_not_valid(databases: Databases, tmp_path: Path) -> None:
    live = run_from("SQL_ASCII", databases, tmp_path, capture=False)
    set_up(live)
    live.migrate()
    live.source.sql(SPOIL)
    with pytest.raises(DataFailure, match="id = 23, column v"):
        live.verify()


@pytest.mark.parametrize("strategy", ["copy", "fdw"])
def test_transform_that_the_error_recommends_converts_every_row(
    databases: Databases, tmp_path: Path, strategy: str
) -> None:
    live = run_from("SQL_ASCII", databases, tmp_path, strategy=strategy)
    live.source.sql(SPOIL)
    set_up(live)
    with pytest.raises(DataFailure) as failed:
        live.migrate()
    assert CONVERTED in str(failed.value.fix)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(f'a: {{v: {{source_column: v, transform: "{CONVERTED}"}}}}')
    live.restart("a")
    assert live.verify().equal
    assert bytes_of(live, 23) == "café".encode()
    live.source.sql(r"INSERT INTO a VALUES (500, E'\351', 'w')")
    live.follow()
    assert live.verify().equal
    live.cutover()
    assert bytes_of(live, 500) == "é".encode()


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252"])
def test_transform_may_convert_encodings(databases: Databases, tmp_path: Path, encoding: str) -> None:
    mapping = "a: {v: {source_column: v, transform: \"convert_from(convert_to(v, 'UTF8'), 'UTF8')\"}}"
    live = run_from(encoding, databases, tmp_path, mapping=mapping)
    live.source.sql(r"UPDATE a SET v = E'caf\351', w = E'\377' WHERE id = 23")
    set_up(live)
    live.migrate()
    live.source.sql(r"INSERT INTO a VALUES (500, E'\351', E'\337')")
    live.follow()
    assert live.verify().equal
    assert (bytes_of(live, 23), bytes_of(live, 500)) == ("café".encode(), "é".encode())


def test_preview_shows_text_that_is_not_valid_as_bytes(databases: Databases, tmp_path: Path) -> None:
    mapping = f'a: {{v: {{source_column: v, transform: "{CONVERTED}"}}}}'
    live = run_from("SQL_ASCII", databases, tmp_path, mapping=mapping)
    live.source.sql(SPOIL)
    shown = {before["id"]: (before["v"], after["v"]) for before, after in preview(live.where, live.choices, "a", 50)}
    assert shown["23"] == (r"\x636166e9", "café")


def test_plan_accepts_a_text_that_is_not_valid_in_what_it_evaluates(databases: Databases, tmp_path: Path) -> None:
    function = """CREATE FUNCTION f(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN f2(t); END $$;
    CREATE FUNCTION f2(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT t';"""
    live = run_from("SQL_ASCII", databases, tmp_path)
    live.source.sql(SPOIL)
    (tmp_path / "db/schema/10/new.sql").write_text(f"{function} {BY_ID}; ALTER TABLE a ADD CHECK (f(v) <> '')")
    with pytest.raises(Refused, match="the plan is refused"):
        set_up(live)
