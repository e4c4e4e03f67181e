"""The statement splitter: PostgreSQL's lexical rules, faults with their positions, and refused statements."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confiture.ddl import Statement, refusal, split, terminated, tokens
from confiture.errors import FaultyInput

#: Each is one complete statement, however many semicolons and quotes it contains.
WHOLE = (
    "SELECT 'a;b', 'it''s;', '', 'C:\\'",
    r"SELECT E'it\'s; \\', e'\'', E''",
    "SELECT E'a'\n  -- a comment; and\n  'b\\';c'",
    "SELECT 'a'\n'b;c'",
    "SELECT U&'d\\0061t;a', U&'!0061;' UESCAPE '!', U&\"d\\0061;t\"",
    "SELECT B'01', X'1F', N'a;b'",
    "SELECT $$a;b$$, $a$ $$;$$ $b$;$b$ $a$, $ü1$;$ü1$",
    "SELECT a$b$c",
    'SELECT 1 AS "a;""b", 2 AS "\'"',
    "SELECT 1 /* ; /* ; */ ; ' */ + 2 -- ; '\n + 3",
    "SELECT 1*/* ; */2, 3+---; 4\n5",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT ')'; SELECT 2)",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
    "create or replace procedure p(a int) begin atomic insert into t values (1); end",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 1 AS end; END",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 end; SELECT 2 AS case; RETURN (SELECT t.end); END",
    "CREATE FUNCTION f() RETURNS void BEGIN ATOMIC END",
    "CREATE FUNCTION begin() RETURNS void BEGIN/**/ATOMIC SELECT '; END;'; END",
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN 1; END; $f$",
    "DO $$ BEGIN PERFORM '$x$;'; END $$",
    "SELECT 5 % 2, '%s', '%(a)s'",
)


@pytest.mark.parametrize("statement", WHOLE)
def test_a_statement_stays_whole_between_others(statement: str) -> None:
    found = split(f"SELECT 'before';\n\n {statement}\n;SELECT 'after'")
    assert [s.text for s in found] == ["SELECT 'before'", statement.rstrip(), "SELECT 'after'"]
    assert (found[1].line, found[1].column) == (3, 2)


def test_comments_around_statements_and_empty_statements_are_left_out() -> None:
    assert split("") == split(" ;; -- a\n;/* b; */") == ()
    assert split("-- one\n/* two */ SELECT 1 -- three\n; -- four") == (Statement("SELECT 1", 2, 11),)


def test_begin_atomic_outside_a_routine_is_an_ordinary_name() -> None:
    assert [s.text for s in split("SELECT begin atomic FROM t; SELECT 2")] == [
        "SELECT begin atomic FROM t",
        "SELECT 2",
    ]


def test_a_closing_parenthesis_too_many_does_not_swallow_the_rest() -> None:
    assert len(split("SELECT 1); SELECT (2); SELECT 3")) == 3


def test_windows_line_ends_count_as_one_line() -> None:
    assert [s.line for s in split("SELECT 1;\r\n\r\nSELECT 2;\r\n-- a;\r\nSELECT 3")] == [1, 3, 5]


def test_lines_that_pg_dump_writes_only_for_psql_are_skipped() -> None:
    text = "\\restrict aB3\n\nSELECT 1;\n\\unrestrict aB3\n"
    assert split(text) == (Statement("SELECT 1", 3, 1),)


def places(text: str) -> list[tuple[int, int]]:
    with pytest.raises(FaultyInput) as raised:
        split(text, "a.sql")
    assert all(fault.file == "a.sql" for fault in raised.value.faults)
    return [(fault.line, fault.column) for fault in raised.value.faults]


@pytest.mark.parametrize("opening", ["'", "E'\\'", '"', "$$", "$a$ $b$ $$", "/* /* */", "N'''", "U&'"])
def test_an_unterminated_construct_is_a_fault_at_its_start(opening: str) -> None:
    [(line, column)] = places(f"SELECT 1;\nSELECT {opening} ; SELECT 2")
    assert line == 2
    assert column in (8, 9, 10)


def test_all_psql_commands_are_reported_as_faults_by_name() -> None:
    text = "\\connect other\nSELECT 1;\n  \\i b.sql\nSELECT 2 \\gexec\nSELECT 3;"
    assert places(text) == [(1, 1), (3, 3), (4, 10)]
    with pytest.raises(FaultyInput, match="cannot be read as SQL") as raised:
        split(text, "a.sql")
    assert raised.value.why.splitlines()[0].startswith(r"a.sql:1:1: \connect is a psql command (")


def test_copy_from_stdin_is_a_fault_and_its_data_is_not_read_as_sql() -> None:
    text = "COPY a.t (x, y) FROM stdin;\n1\tit's\n\\N\t;\n\\.\n\n\\c x\ncopy t from STDIN with (header);\n'"
    assert places(text) == [(1, 1), (6, 1), (7, 1)]


def test_copy_from_a_file_on_the_server_is_a_statement() -> None:
    assert len(split("COPY t FROM '/tmp/from stdin';COPY \"from stdin\" FROM PROGRAM 'x'")) == 2


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("", True),
        ("-- a;", True),
        ("SELECT 1;", True),
        ("SELECT 1; -- a", True),
        ("SELECT 1", False),
        ("SELECT 1 -- ;", False),
        ("SELECT ';'", False),
    ],
)
def test_a_text_is_terminated_if_another_may_follow(text: str, closed: bool) -> None:
    assert terminated(text) is closed


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("BEGIN", "BEGIN"),
        ("begin isolation level serializable", "BEGIN"),
        ("/* a */ START /* b */ TRANSACTION", "START TRANSACTION"),
        ("COMMIT", "COMMIT"),
        ("COMMIT PREPARED 'a'", "COMMIT"),
        ("END", "END"),
        ("ABORT", "ABORT"),
        ("ROLLBACK", "ROLLBACK"),
        ("ROLLBACK AND CHAIN", "ROLLBACK"),
        ("PREPARE TRANSACTION 'a'", "PREPARE TRANSACTION"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX CONCURRENTLY"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE UNIQUE INDEX CONCURRENTLY"),
        ("DROP INDEX CONCURRENTLY i", "DROP INDEX CONCURRENTLY"),
        ("REINDEX (VERBOSE) TABLE CONCURRENTLY t", "REINDEX TABLE CONCURRENTLY"),
        ("REINDEX (VERBOSE) DATABASE d", "REINDEX DATABASE"),
        ('ALTER TABLE a."t" DETACH PARTITION a.p CONCURRENTLY', "ALTER TABLE … CONCURRENTLY"),
        ("VACUUM (ANALYZE) t", "VACUUM"),
        ("CLUSTER", "CLUSTER"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("CREATE DATABASE d", "CREATE DATABASE"),
        ("DROP DATABASE IF EXISTS d", "DROP DATABASE"),
        ("CREATE TABLESPACE s LOCATION '/x'", "CREATE TABLESPACE"),
        ("ALTER DATABASE d SET TABLESPACE s", "ALTER DATABASE … TABLESPACE"),
        ("ALTER SYSTEM SET work_mem = '1GB'", "ALTER SYSTEM"),
        ("COPY (SELECT 1) TO STDOUT", "COPY TO STDOUT"),
        ("COPY a.t (b) TO STDOUT WITH (FORMAT csv)", "COPY A … STDOUT"),
    ],
)
def test_a_statement_that_cannot_run_in_a_transaction_is_refused(statement: str, name: str) -> None:
    refused = refusal(Statement(statement, 1))
    assert refused is not None
    assert refused[0] == name
    assert refused[1]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE begin (commit int)",
        "SAVEPOINT a",
        "ROLLBACK TO a",
        "ROLLBACK WORK TO SAVEPOINT a",
        "RELEASE a",
        "CREATE INDEX i ON concurrently (a)",
        'DROP INDEX "concurrently"',
        "REINDEX TABLE t",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "ALTER TABLE t DETACH PARTITION p",
        "ALTER DATABASE d SET search_path = a",
        "CLUSTER t",
        "DISCARD TEMP",
        "COPY t TO '/tmp/to stdout'",
        "PREPARE a AS SELECT 1",
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "SET statement_timeout = 0",
        "ANALYZE",
    ],
)
def test_a_statement_that_can_run_in_a_transaction_is_accepted(statement: str) -> None:
    assert refusal(Statement(statement, 1)) is None


def test_a_position_in_a_statement_maps_to_its_file() -> None:
    [_, statement] = split("SELECT 1; SELECT é,\n  oops,\n  2")
    assert statement.place(1) == (1, 11)
    assert statement.place(statement.text.index("é") + 1) == (1, 18)
    assert statement.place(statement.text.index("oops") + 1) == (2, 3)
    assert statement.place(statement.text.index("2") + 1) == (3, 3)


def test_a_long_statement_is_shown_on_one_line_of_bounded_length() -> None:
    shown = Statement("SELECT\n\t" + "a, " * 1000, 1).shown
    assert shown.startswith("SELECT a, a, ")
    assert len(shown) <= 200


def words(text: str) -> list[str]:
    return [text[token.start : token.end] for token in tokens(text)]


SIGNS = (";", " ", "\n", "--x\n", "/*;*/", "(", ")", "END", "BEGIN", "ATOMIC", "1", "$", "E", "ü", "@")
PIECES = st.sampled_from(WHOLE + SIGNS)


@given(st.lists(PIECES, max_size=12).map(" ".join))
def test_joining_the_statements_yields_the_same_tokens(text: str) -> None:
    joined = "\n;".join(statement.text for statement in split(text))
    assert [w for w in words(joined) if w != ";"] == [w for w in words(text) if w != ";"]
    assert [s.text for s in split(joined)] == [s.text for s in split(text)]


NOISE = st.text(st.sampled_from("'\"$\\;()/*-aEeUu&_1 \t\n\r.é\x00") | st.characters(), max_size=200)


@given(NOISE)
def test_any_text_is_split_or_refused_and_no_token_is_lost(text: str) -> None:
    try:
        statements = split(text)
    except FaultyInput:
        return
    kept = [word for statement in statements for word in words(statement.text)]
    assert [w for w in kept if w != ";"] == [w for w in words(text) if w != ";"]
    lines = text.split("\n")
    for statement in statements:
        rest = "\n".join(lines[statement.line - 1 :])[statement.column - 1 :]
        assert rest.startswith(statement.text)


HOSTILE = (
    "'",
    "E'a'\n--",
    "$a$b",
    "/*",
    "(;",
    "E'x' --",
    "\"'",
    "\\x\n",
    "1e",
    "create function f() begin atomic ",
)


@pytest.mark.parametrize("unit", HOSTILE)
def test_splitting_a_hostile_text_takes_linear_time(unit: str) -> None:
    # A quadratic algorithm would take hours here and exceed the time limit of the suite.
    with suppress(FaultyInput):
        split(unit * 50_000)
