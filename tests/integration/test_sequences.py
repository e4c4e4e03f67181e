"""Sequences of the target continue after their origins in the source, within their bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import schemas
from confiture import commands
from confiture.config import Database
from confiture.errors import Refused
from confiture.plan.model import Plan, SequencePlan
from confiture.postgres.session import Session
from confiture.schema_to_schema.cutover import SEQUENCE_MARGIN
from confiture.schema_to_schema.outcomes import Limits
from confiture.schema_to_schema.sequences import set_all
from confiture.types import TableRef
from live import LiveRun
from servers import Databases


def named(request: pytest.FixtureRequest, version: str) -> Databases:
    found = request.getfixturevalue(version)
    assert isinstance(found, Databases)
    return found


#: Source, target, and the next value in the target after the cutover. Where a sequence of the source is at 40, that is
#: 40 plus the margin plus one.
FILLED = "INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 40);"
ORIGINS = {
    "a default that nothing owns, renamed": (
        "CREATE SEQUENCE old_s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('old_s'), v text);" + FILLED,
        "CREATE SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)",
        40 + SEQUENCE_MARGIN + 1,
    ),
    "serial to identity": (
        "CREATE TABLE t (id serial PRIMARY KEY, v text);" + FILLED,
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME s) PRIMARY KEY, v text)",
        40 + SEQUENCE_MARGIN + 1,
    ),
    "the default of a domain": (
        "CREATE SEQUENCE other; CREATE DOMAIN ident AS bigint DEFAULT nextval('other');"
        "CREATE TABLE t (id ident PRIMARY KEY, v text);" + FILLED,
        "CREATE SEQUENCE s; CREATE DOMAIN ident AS bigint DEFAULT nextval('s');"
        "CREATE TABLE t (id ident PRIMARY KEY, v text)",
        40 + SEQUENCE_MARGIN + 1,
    ),
    "a partition's default": (
        "CREATE TABLE t (id bigint NOT NULL, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 (id bigserial, v text, PRIMARY KEY (id));"
        "ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (9999);"
        "INSERT INTO t1 (v) SELECT 'x' FROM generate_series(1, 40);",
        "CREATE SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)",
        40 + SEQUENCE_MARGIN + 1,
    ),
    "no origin: after the largest value": (
        "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t SELECT g, 'x' FROM generate_series(1, 40) g;",
        "CREATE SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)",
        40 + SEQUENCE_MARGIN + 1,
    ),
    "no origin, and values that the sequence never hands out": (
        "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (40, 'x'), (100000, 'by hand');",
        "CREATE SEQUENCE s MAXVALUE 5000; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)",
        40 + SEQUENCE_MARGIN + 1,
    ),
    "a formula to plain values": (
        "CREATE SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s') * 10, v text);" + FILLED,
        "CREATE SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)",
        400 + SEQUENCE_MARGIN + 1,
    ),
    "descending": (
        "CREATE SEQUENCE d INCREMENT -2; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('d'), v text);" + FILLED,
        "CREATE SEQUENCE s INCREMENT -2; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)",
        -79 - 2 * SEQUENCE_MARGIN - 2,
    ),
    "the other way round": (
        "CREATE SEQUENCE d INCREMENT -1; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('d'), v text);" + FILLED,
        "CREATE SEQUENCE s MINVALUE -100; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)",
        -1 + SEQUENCE_MARGIN + 1,
    ),
    "one that cycles": (
        "CREATE SEQUENCE s MAXVALUE 12 CYCLE; SELECT nextval('s'), nextval('s');"
        + "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE SEQUENCE s MAXVALUE 12 CYCLE; CREATE TABLE t (id int PRIMARY KEY)",
        (2 + SEQUENCE_MARGIN) % 12 + 1,
    ),
    "one that begins later": (
        "CREATE TABLE t (id serial PRIMARY KEY, v text);" + FILLED,
        "CREATE SEQUENCE s MINVALUE 5000 START 5000; CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('s'), v text)",
        5000,
    ),
}


#: Also tested on the old server: cases for which its catalogs are read differently.
_OLD = ("serial to identity", "the default of a domain", "a partition's default")


@pytest.mark.parametrize(("version", "names"), [("databases", tuple(ORIGINS)), ("old_databases", _OLD)])
def test_a_sequence_continues_after_the_value_of_its_origin(
    request: pytest.FixtureRequest, tmp_path: Path, version: str, names: tuple[str, ...]
) -> None:
    old, new, following = zip(*(ORIGINS[name] for name in names), strict=True)
    live = LiveRun(named(request, version), tmp_path, schemas.create_each(old), schemas.create_each(new))
    live.up_to_cutover()
    rehearse(live)
    live.cutover()
    for number, (name, value) in enumerate(zip(names, following, strict=True)):
        assert live.target.value(f"SELECT nextval('{schemas.named(number)}.s')") == value, name


def rehearse(live: LiveRun) -> None:
    commands.cutover.rehearse(live.where, Limits(), live.project / "differences.jsonl", live.progress)


#: Near the end: the last value in the source, the sequence of the target, and its last value after the cutover.
ENDS = {
    "only the margin does not fit": (950, "CREATE SEQUENCE s MAXVALUE 1000", 1000),
    "at the end": (1000, "CREATE SEQUENCE s MAXVALUE 1000", 1000),
    "a smaller type": (2147483600, "CREATE SEQUENCE s AS integer", 2147483647),
    "a step that does not fit": (950, "CREATE SEQUENCE s INCREMENT 20 MAXVALUE 1000", 990),
}


def test_a_sequence_near_its_end_advances_to_its_last_value_at_most(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE t (id int PRIMARY KEY);"
    old = schemas.create_each(f"{table} CREATE SEQUENCE s; SELECT setval('s', {last})" for last, _, _ in ENDS.values())
    live = LiveRun(databases, tmp_path, old, schemas.create_each(table + new for _, new, _ in ENDS.values()))
    live.up_to_cutover()
    rehearse(live)
    live.cutover()
    for number, (name, (_, _, value)) in enumerate(ENDS.items()):
        found = live.target.rows(f"SELECT last_value, is_called FROM {schemas.named(number)}.s")
        assert found == [(value, True)], name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CREATE SEQUENCE s; SELECT setval('s', 13)", "CREATE SEQUENCE s MAXVALUE 12"),
        ("CREATE SEQUENCE s; SELECT setval('s', 13)", "CREATE SEQUENCE s MAXVALUE 12 CYCLE"),
        ("CREATE SEQUENCE s; SELECT setval('s', 3000000000)", "CREATE SEQUENCE s AS int"),
        ("CREATE SEQUENCE s INCREMENT -1; SELECT setval('s', -13)", "CREATE SEQUENCE s INCREMENT -1 MINVALUE -12"),
    ],
)
def test_plan_refuses_a_sequence_that_ends_before_its_origin(
    databases: Databases, tmp_path: Path, old: str, new: str
) -> None:
    table = "CREATE TABLE t (id int PRIMARY KEY);"
    with pytest.raises(Refused) as refused:
        LiveRun(databases, tmp_path, table + old, table + new).plan()
    assert "sequence public.s of the source is at" in refused.value.why


def test_rehearsal_reports_a_sequence_that_now_ends_before_its_origin(databases: Databases, tmp_path: Path) -> None:
    table = "CREATE TABLE t (id int PRIMARY KEY);"
    live = LiveRun(databases, tmp_path, table + "CREATE SEQUENCE s", table + "CREATE SEQUENCE s MAXVALUE 12")
    live.up_to_cutover()
    live.source.sql("SELECT setval('s', 13)")
    for attempt in (lambda: rehearse(live), live.cutover):
        with pytest.raises(Refused, match=r"public\.s cannot continue at 13") as refused:
            attempt()
    assert live.open_sides("INSERT INTO t VALUES (1)") == {"source"}
    live.target.sql(refused.value.fix.split(": ")[1].split(";")[0])
    live.cutover()
    assert live.target.value("SELECT nextval('s')") == 13 + SEQUENCE_MARGIN + 1


@pytest.mark.parametrize("change", ["DROP SEQUENCE s", "ALTER SEQUENCE s RENAME TO s2"])
def test_error_names_a_sequence_that_is_dropped_during_the_run(
    databases: Databases, tmp_path: Path, change: str
) -> None:
    ddl = "CREATE TABLE t (id int PRIMARY KEY); CREATE SEQUENCE s"
    live = LiveRun(databases, tmp_path, ddl, ddl)
    live.up_to_cutover()
    live.source.sql(change)
    for attempt in (lambda: rehearse(live), live.cutover):
        with pytest.raises(Refused, match=r"has no sequence public\.s any more"):
            attempt()
    assert live.open_sides("INSERT INTO t VALUES (1)") == {"source"}
    live.source.sql("CREATE SEQUENCE s START 7" if "DROP" in change else "ALTER SEQUENCE s2 RENAME TO s")
    live.cutover()


def test_a_sequence_without_an_origin_is_refused_and_the_hint_works(databases: Databases, tmp_path: Path) -> None:
    old = "CREATE TABLE t (id text PRIMARY KEY, v int); INSERT INTO t VALUES ('A7', 1)"
    new = "CREATE SEQUENCE s; CREATE TABLE t (id text PRIMARY KEY DEFAULT 'A' || nextval('s'), v int)"
    live = LiveRun(databases, tmp_path, old, new)
    with pytest.raises(Refused) as refused:
        live.plan()
    assert "sequence public.s of the target fills public.t.id" in refused.value.why
    assert "CREATE SEQUENCE public.s START WITH" in refused.value.why
    live.source.sql("CREATE SEQUENCE public.s START WITH 8")
    live.through()
    assert live.target.value("SELECT nextval('s')") == 8 + SEQUENCE_MARGIN


def test_rollback_advances_an_unowned_sequence_of_the_source(databases: Databases, tmp_path: Path) -> None:
    old = "CREATE SEQUENCE old_s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('old_s'), v text);" + FILLED
    new = "CREATE SEQUENCE s; CREATE TABLE t (id bigint PRIMARY KEY DEFAULT nextval('s'), v text)"
    live = LiveRun(databases, tmp_path, old, new)
    live.through()
    live.target.sql(FILLED)
    last = live.target.value("SELECT last_value FROM s")
    live.rollback()
    assert live.source.value("SELECT nextval('old_s')") == last + SEQUENCE_MARGIN + 1


# Many sequences ------------------------------------------------------------------------------------


@contextmanager
def statements(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that the session executes in the block."""
    found: list[str] = []
    execute = psycopg.Connection.execute

    def recorded(connection: psycopg.Connection[tuple[object, ...]], query: object, *more: object) -> object:
        if connection is session.pg:
            found.append(str(query))
        return execute(connection, query, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(type(session.pg), "execute", recorded)
        yield found


@pytest.mark.parametrize("version", ["databases", "old_databases"])
def test_a_thousand_sequences_need_as_many_statements_as_one(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    databases = named(request, version)
    make = "DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('CREATE SEQUENCE s%s START %s', i, i); END LOOP; END $$;"
    old, new = databases.cloned(make + "SELECT nextval('s7')"), databases.cloned(make)
    refs = [TableRef("public", f"s{n}") for n in range(1, 1001)]
    counts = []
    with (
        Session(Database("source", old.conninfo), "test") as source,
        Session(Database("target", new.conninfo), "test") as target,
    ):
        for some in (refs[:1], refs):
            plan = Plan((), sequences=tuple(SequencePlan(ref, (ref,), ()) for ref in some))
            with statements(source, monkeypatch) as a, statements(target, monkeypatch) as b, target.transaction() as tx:
                set_all(source, tx, plan, margin=3)
            counts.append((len(a), len(b)))
    assert counts[0] == counts[1]
    assert new.rows("SELECT last_value, is_called FROM s7") == [(10, True)]
    assert new.rows("SELECT last_value, is_called FROM s1000") == [(1003, False)]
