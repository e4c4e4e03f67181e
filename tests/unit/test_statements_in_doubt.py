"""Where the catalog shows whether a statement is done that was running when its process was killed."""

from __future__ import annotations

import pytest

from confiture.ddl import split
from confiture.incremental.in_doubt import Kind, Lookup, is_setting, lookup, waits_for_transactions


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", Lookup(Kind.BUILD_INDEX, "i", "t")),
        (
            'create unique index concurrently if not exists "I ""x" on only app . "T" using btree (lower(a)) where b',
            Lookup(Kind.BUILD_INDEX, '"I ""x"', 'app . "T"'),
        ),
        ("DROP INDEX CONCURRENTLY IF EXISTS app.i CASCADE", Lookup(Kind.DROP_INDEX, "app.i")),
        ("REINDEX INDEX CONCURRENTLY app.i", Lookup(Kind.REINDEX, "app.i", catalog="index")),
        ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", Lookup(Kind.REINDEX, "t", catalog="table")),
        ("REINDEX SCHEMA CONCURRENTLY app", Lookup(Kind.REINDEX, "app", catalog="schema")),
        ("REINDEX TABLE t", Lookup(Kind.REPEATABLE)),
        ("ALTER TABLE IF EXISTS a.p DETACH PARTITION a.c CONCURRENTLY", Lookup(Kind.DETACH, "a.c", "a.p")),
        ("CREATE DATABASE d TEMPLATE t", Lookup(Kind.CREATE, "d", catalog="database")),
        ("DROP SUBSCRIPTION IF EXISTS s", Lookup(Kind.DROP, "s", catalog="subscription")),
        ("VACUUM (ANALYZE) t", Lookup(Kind.REPEATABLE)),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", Lookup(Kind.REPEATABLE)),
        ("ALTER DATABASE d SET TABLESPACE s", Lookup(Kind.REPEATABLE)),
        ("CALL p(1)", Lookup(Kind.UNKNOWN)),
    ],
)
def test_the_object_of_a_statement_is_found(text: str, wanted: Lookup) -> None:
    assert lookup(split(text)[0]) == wanted


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("SET search_path = app", True),
        ("SET SESSION AUTHORIZATION x", True),
        ("reset role", True),
        ("SELECT pg_catalog.set_config('search_path', '', false)", True),
        ("SELECT set_config('search_path', '', false)", True),
        ("SET LOCAL search_path = app", False),
        ("SET CONSTRAINTS ALL DEFERRED", False),
        ("SELECT set_config('a', 'b', false) FROM t", False),
    ],
)
def test_a_setting_of_the_session_is_recognized(text: str, setting: bool) -> None:
    assert is_setting(split(text)[0]) == setting


@pytest.mark.parametrize(
    ("text", "waits"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", True),
        ("DROP INDEX CONCURRENTLY i", True),
        ("REINDEX (CONCURRENTLY) TABLE t", True),
        ("CREATE INDEX i ON t (a)", False),
        ("ALTER TABLE p DETACH PARTITION c CONCURRENTLY", False),
        ("VACUUM t", False),
    ],
)
def test_a_wait_that_blocks_no_reader_or_writer_has_no_limit(text: str, waits: bool) -> None:
    assert waits_for_transactions(split(text)[0]) == waits
