"""The sequences that the linter recommends run on servers of two versions, and contain no error themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from confiture.lint import check, script
from confiture.lint.model import Draft, Level
from confiture.lint.script import Script
from confiture.lint.seen import Seen
from confiture.postgres.embedded import Server
from lint_corpus import CASES, SCHEMA, Case, existing
from servers import Databases, TestDatabase

#: Cases of one statement whose finding has a sequence. Others have a sequence for a part of the file only.
ONE = [case for case in CASES if len(case.rules) == 1 and len(case.script.statements) == 1]
_OUTSIDE = "-- confiture: no-transaction\n"


def draft_of(case: Case) -> Draft:
    seen = Seen()
    for _ in check.judged(existing(), seen):
        pass
    ((_, (draft,)),) = check.judged(case.script, seen)
    return draft


def files(draft: Draft) -> list[Script]:
    return [
        script.read(f"{number}.up.sql", step.sql if step.transactional else _OUTSIDE + step.sql)
        for number, step in enumerate(draft.steps, 1)
    ]


#: Statements of the application between two steps, where a sequence waits for them.
FILLED = {"required column without a default": "UPDATE users SET country = 'FR'"}
#: Its statement connects to a publisher, which no test has here.
CONNECTS = "subscription in a transaction"
SEQUENCES = [(case, draft) for case in ONE if case.name != CONNECTS and (draft := draft_of(case)).steps]


@pytest.fixture(params=["18", "15"])
def on(request: pytest.FixtureRequest) -> Iterator[Databases]:
    running: Server = request.getfixturevalue("server" if request.param == "18" else "old_server")
    made = Databases(running)
    yield made
    made.drop_all()


@pytest.mark.parametrize(("case", "draft"), SEQUENCES, ids=lambda given: getattr(given, "name", ""))
def test_a_recommended_sequence_runs(case: Case, draft: Draft, on: Databases) -> None:
    database = on.cloned(SCHEMA)
    if case.since > database.value("SELECT current_setting('server_version_num')::int / 10000"):
        pytest.skip(f"the syntax is that of PostgreSQL {case.since}")
    run(database, draft, FILLED.get(case.name))


def run(database: TestDatabase, draft: Draft, filled: str | None = None) -> None:
    with database.connect() as connection:
        for number, file in enumerate(files(draft)):
            if number == 1 and filled is not None:
                connection.execute(filled.encode())
            if file.transactional:
                with connection.transaction():
                    connection.execute(file.text.encode())
            else:
                for statement in file.statements:
                    connection.execute(statement.source.text.encode())


#: More rows than one batch of a backfill reads, and the column that a sequence leaves to be dropped later.
MANY = (
    "INSERT INTO orders (id, user_id, amount, placed, status)"
    " SELECT n, n, n, DATE '2024-01-01', repeat('x', 100) FROM generate_series(1000, 20000) n"
)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("update of every row", "orders"),
        ("stored generated column", "orders"),
        ("delete of every row", "logs"),
        ("bigint from a numeric", "items"),
        ("json to jsonb", "users"),
    ],
)
def test_a_recommended_sequence_has_the_result_of_the_statement(name: str, table: str, databases: Databases) -> None:
    case, draft = next((case, draft) for case, draft in SEQUENCES if case.name == name)
    direct, safe = databases.cloned(SCHEMA), databases.cloned(SCHEMA)
    for database in (direct, safe):
        database.sql(MANY)
    direct.sql(case.sql)
    run(safe, draft)
    rows = f"SELECT to_jsonb(t) FROM {table} t ORDER BY to_jsonb(t)::text"
    assert safe.rows(rows) == direct.rows(rows)


@pytest.mark.parametrize(("case", "draft"), SEQUENCES, ids=lambda given: getattr(given, "name", ""))
def test_a_recommended_sequence_contains_no_error(case: Case, draft: Draft) -> None:
    found = check.findings([existing(), *files(draft)])
    assert [(f.rule, f.statement) for f in found if f.level is Level.error and "tables" not in f.file] == []


def test_most_cases_with_a_finding_have_a_sequence() -> None:
    assert len(SEQUENCES) >= 40
