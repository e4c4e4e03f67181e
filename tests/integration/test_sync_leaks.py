"""No clear value of a masked column reaches the target, its journal or its log, nor the terminal, by any way."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

import synced
from confiture.copy.hidden_text import hiding
from forked import Forks
from projects import Done
from servers import Databases
from synced import Synced

#: A part of the clear values, which no other text contains.
CLEAR = "klartextwert"
#: A function that fails for one row, which is behind those whose masked values are tried before the copy.
FAILING = f"""
UPDATE customer SET full_name = '{CLEAR} Lee' WHERE id = 250;
CREATE FUNCTION failing(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF name LIKE '{CLEAR}%' THEN
        RAISE 'cannot read %', name USING HINT = name, DETAIL = name, ERRCODE = '{{code}}';
    END IF;
    RETURN 'x';
END $$;
CREATE FUNCTION composing(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF name LIKE '{CLEAR}%' THEN EXECUTE 'SELECT ' || split_part(name, ' ', 1); END IF;
    RETURN 'x';
END $$;
"""


@pytest.fixture
def sync(databases: Databases, tmp_path: Path) -> Synced:
    """A project whose target is empty. The log of the one server has errors of the target only."""
    made = synced.make(databases, tmp_path)
    made.source.sql(f"ALTER DATABASE {made.source.name} SET log_min_messages = panic")
    return made


def said(done: Done) -> str:
    return done.stdout + done.stderr


def fails(sync: Synced, sql: str, code: str = "P0001") -> str:
    """The output of a sync that an expression for the name fails; no place has the clear value."""
    sync.source.sql(FAILING.format(code=code))
    sync.write("db/sync/mask.yaml", synced.MASK.replace("full_name: name", f'full_name: {{sql: "{sql}"}}'))
    printed = said(sync.run("--verbose", check=5))
    printed += said(sync.call("status", "--target", "local", check=None))
    printed += said(sync.call("history", "--target", "local", check=None))
    assert CLEAR not in printed
    assert sync.mentions(CLEAR) == []
    return " ".join(printed.split())


def test_a_cast_that_fails_names_the_row_and_not_its_value(sync: Synced) -> None:
    printed = fails(sync, "CASE WHEN id = 250 THEN full_name::int::text ELSE 'x' END")
    assert 'id = 250, column full_name invalid input syntax for type integer: "***"' in printed
    assert "run the command with --restart" in printed


@pytest.mark.parametrize("code", ["P0001", "38000", "23505", "42P01", "ZZ123"])
def test_the_text_that_a_function_raises_is_not_shown(sync: Synced, code: str) -> None:
    assert "the text of the error is not shown" in fails(sync, "failing(full_name)", code)


def test_a_statement_that_a_function_composes_is_not_shown(sync: Synced) -> None:
    assert "the text of the error is not shown" in fails(sync, "composing(full_name)")


def test_a_condition_over_masked_rows_shows_no_value_for_another_table(sync: Synced) -> None:
    sync.source.sql(f"UPDATE customer SET full_name = '{CLEAR}' WHERE id = 250")
    where = "customer=CASE WHEN id = 250 THEN full_name::int ELSE 1 END > 0"
    assert CLEAR not in said(sync.run("--where", where, "--verbose", check=5))
    assert sync.mentions(CLEAR) == []


def test_statistics_of_clear_values_do_not_stay(sync: Synced, forks: Forks) -> None:
    """Also of an index and of partitions. The ANALYZE is that of an autovacuum before the proof."""
    sync.write(
        "db/schema/30_index.sql", "CREATE INDEX ON customer (lower(full_name)); ALTER TABLE orders ADD note text;"
    )
    sync.source.sql(f"UPDATE customer SET full_name = '{CLEAR} ' || id; ALTER TABLE orders ADD note text")
    sync.source.sql(f"UPDATE orders SET note = '{CLEAR} ' || id")
    mask = synced.MASK.replace("full_name: name", 'full_name: {sql: "full_name"}')
    sync.write("db/sync/mask.yaml", f'{mask}\norders:\n  note: {{sql: "note"}}\n')
    assert sync.killed(forks, "references.done.after_commit").code == -signal.SIGKILL
    sync.target.sql("ANALYZE")
    assert "pg_catalog.pg_stats" in sync.mentions(CLEAR)
    assert "2 masked columns" in sync.run(check=7).stderr
    assert sync.mentions(CLEAR) == []


@pytest.mark.parametrize(
    "text",
    [
        'of integer: "x"',
        "of integer: \u00bbx\u00ab",
        "of integer: \u00ab x \u00bb",
        "of integer: \u300cx\u300d",
        "of integer: \u201ex\u201c",
    ],
)
def test_a_value_is_hidden_in_the_quotes_of_any_language(text: str) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation) as raised, hiding():
        raise psycopg.errors.InvalidTextRepresentation(text)
    assert str(raised.value) == 'of integer: "***"'
    assert raised.value.sqlstate == "22P02"


def test_errors_about_objects_keep_their_text() -> None:
    for kind in (psycopg.errors.UniqueViolation, psycopg.errors.DiskFull, psycopg.errors.InsufficientPrivilege):
        with pytest.raises(kind, match="of an object"), hiding():
            raise kind("of an object")
    with pytest.raises(psycopg.OperationalError, match="the connection"), hiding():
        raise psycopg.OperationalError("the connection")
