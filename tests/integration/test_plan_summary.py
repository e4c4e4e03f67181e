"""The plan as text: the largest tables, one a line, and a summary in which equal reasons are printed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from confiture.commands.endpoints import Endpoints
from confiture.commands.options import RunOptions
from confiture.commands.plan import make, next_command, table_named
from confiture.errors import MissingPrivileges, Refused, UsageError
from confiture.render import plan as render
from confiture.types import TableRef, grouped, short_names
from live import LiveRun
from servers import Databases

KEYED = "".join(f"CREATE TABLE t{n:03} (id int PRIMARY KEY, v text);" for n in range(300))
KEYLESS = "".join(f"CREATE TABLE lookup{n} (v text);" for n in range(6))


def _text(live: LiveRun, **choices: object) -> str:
    chosen = live.chosen(**choices)
    planned = make(live.where, chosen)
    following = next_command(live.where, chosen, planned)
    listed = render.table_list(planned.plan)
    summary = render.summary(planned.plan, captured=planned.captured, blockers=planned.blockers, following=following)
    return f"{listed}\n{summary}"


def test_plan_of_hundreds_of_tables_fits_on_a_screen_or_two(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, KEYED + KEYLESS, KEYED + KEYLESS)
    text = _text(live)
    lines = text.splitlines()
    assert len(lines) < 48
    assert all(len(line) <= 80 for line in lines if not line.startswith("Next"))
    assert "and 286 smaller tables" in text
    assert text.count("has no unique key") == 1
    assert "6 tables (lookup0, lookup1, lookup2, lookup3 and" in text
    assert "not possible after the cutover: the table has no key" in text
    assert "copied again under the cutover's lock" in text
    names = "public.lookup0, public.lookup1, public.lookup2, public.lookup3"
    assert live.plan().rollback_problems == (f"6 tables ({names} and 2 more): the table has no key",)
    assert lines[-1].startswith("Next       confiture migrate schema-to-schema setup --target ")


def test_plan_without_capture_has_no_work_under_the_lock(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, KEYLESS, KEYLESS)
    text = _text(live, capture=False)
    assert "Lock" not in text
    assert "without capture no change of the target is logged" in " ".join(text.split())
    assert text.splitlines()[-1].endswith(" --no-capture")


def test_next_command_of_the_plan_has_the_options_of_the_plan(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, KEYLESS, KEYLESS)
    mapping = tmp_path / "my mapping.yaml"
    mapping.write_text("")
    options = RunOptions(mapping=mapping, chunk_rows=7, strategy="copy", recopy_mb=9, accept_publication=True)
    command = next_command(live.where, options, make(live.where, options))
    assert f"--mapping '{mapping}' --chunk-rows 7 --strategy copy --recopy-mb 9 --accept-publication" in command
    live.setup()
    assert " migrate --target " in next_command(live.where, live.choices, make(live.where, live.choices))


def test_json_of_one_table_contains_that_table_alone(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, KEYED + KEYLESS, KEYED + KEYLESS)
    plan = live.plan()
    one = table_named(plan, "t007")
    found = render.as_json(plan, (), "next", one)
    assert [t["target"]["name"] for t in found["tables"]] == ["t007"]
    assert [t["source"]["name"] for t in found["reverse"]] in ([], ["t007"])
    assert (found["sequences"], found["notes"]) == ([], [])
    whole = render.as_json(plan, (), "next")
    assert (found["hash"], found.keys()) == (whole["hash"], whole.keys())
    assert len(whole["tables"]) == 306


@pytest.mark.parametrize(("target", "hint"), [("prod_nwe", "; did you mean prod_new?"), ("another", "")])
def test_plan_names_the_database_that_setup_creates(
    databases: Databases, tmp_path: Path, target: str, hint: str
) -> None:
    source = databases.cloned(KEYLESS)
    for name, text in (
        ("db/environments/prod.yaml", f"database_url: {source.conninfo}"),
        ("db/environments/prod_new.yaml", "like: prod\ndatabase: new"),
        ("db/schema/a.sql", KEYLESS),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    planned = make(Endpoints(target, "prod", tmp_path), RunOptions())
    assert planned.created == f"setup creates the database {target} at 127.0.0.1:{source.server.port}{hint}"
    summary = render.summary(planned.plan, captured=True, blockers=(), following="", created=planned.created)
    assert f"Target     setup creates the database {target} at" in summary


def test_table_is_found_with_and_without_its_schema(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, KEYLESS, KEYLESS)
    plan = live.plan()
    assert table_named(plan, "lookup1") == table_named(plan, "public.lookup1")
    four = "public.lookup0, public.lookup1, public.lookup2, public.lookup3"
    with pytest.raises(UsageError, match="no table lokup1") as unknown:
        table_named(plan, "lokup1")
    assert unknown.value.why == f"it has {four} and 2 more; did you mean lookup1?"
    with pytest.raises(UsageError) as unknown:
        table_named(plan, "nowhere")
    assert unknown.value.why == f"it has {four} and 2 more"


def test_equal_refusals_of_several_tables_are_one(databases: Databases, tmp_path: Path) -> None:
    parent = "CREATE TABLE parent (id int PRIMARY KEY);"
    children = "".join(f"CREATE TABLE child{n} (PRIMARY KEY (id)) INHERITS (parent);" for n in range(6))
    live = LiveRun(databases, tmp_path, parent + children, parent + children)
    with pytest.raises(Refused) as refused:
        live.plan()
    # All of them are named, because each needs a way out.
    names = ", ".join(f"public.child{n}" for n in range(6))
    assert f"each of 7 tables ({names}, public.parent) is part of" in str(refused.value.why)


def test_one_grant_names_all_tables_that_lack_a_privilege(databases: Databases, tmp_path: Path) -> None:
    """The statements are complete: after them, no SELECT privilege is missing."""
    live = LiveRun(databases, tmp_path, KEYED + KEYLESS, KEYED + KEYLESS)
    reader = f"{live.source.name}_reader"
    live.source.sql(
        f"CREATE ROLE {reader} LOGIN PASSWORD 'x'; GRANT TEMPORARY ON DATABASE {live.source.name} TO {reader}"
    )
    try:
        where = replace(live.where, source=live.source.server.conninfo(live.source.name, user=reader, password="x"))
        with pytest.raises(MissingPrivileges) as refused:
            make(where, live.chosen(capture=False))
        granting = [line.rpartition(": ")[2] for line in str(refused.value.why).splitlines()]
        assert len([line for line in granting if line.startswith("GRANT SELECT ON ")]) == 1
        for statement in granting:
            live.source.sql(statement)
        assert len(make(where, live.chosen(capture=False)).plan.tables) == 306
    finally:
        live.source.sql(f"DROP OWNED BY {reader} CASCADE; DROP ROLE {reader}")


@pytest.mark.parametrize("capture", [True, False])
def test_plan_names_sessions_that_setup_would_wait_for(databases: Databases, tmp_path: Path, capture: bool) -> None:
    live = LiveRun(databases, tmp_path, KEYLESS, KEYLESS)
    with (
        live.source.connect(application_name="a nightly job", autocommit=False) as writer,
        live.source.connect(application_name="a report", autocommit=False) as reader,
    ):
        writer.execute("INSERT INTO lookup1 VALUES ('x')")
        reader.execute("SELECT * FROM lookup1")
        writer.execute("SELECT pg_sleep(1.1)")
        found = make(live.where, live.chosen(capture=capture)).blockers
        assert [b.application_name for b in found] == (["a nightly job"] if capture else [])
        if capture:
            assert "Blocked    setup would wait now for pid" in _text(live)
    assert make(live.where, live.choices).blockers == ()
    live.setup()
    assert make(live.where, live.choices).blockers == ()


def test_equal_notes_are_one_line(databases: Databases, tmp_path: Path) -> None:
    new = "".join(f"CREATE SEQUENCE s{n}; CREATE TABLE empty{n} (id int PRIMARY KEY);" for n in range(30))
    text = " ".join(_text(LiveRun(databases, tmp_path, KEYLESS, KEYLESS + new)).split())
    assert text.count("has no counterpart on the source") == text.count("has no table on the") == 1
    assert "each of 30 sequences (s0, " in text


def test_sentences_are_grouped_by_what_they_say() -> None:
    assert grouped(["public.a is old", '"A b"."c d" is old', "public.e is new", "nothing of a table"]) == [
        'each of 2 tables (public.a, "A b"."c d") is old',
        "public.e is new",
        "nothing of a table",
    ]
    several = ["sequence public.s keeps its value", "index i of public.a is off", "public.t keeps its value"]
    assert grouped(several) == several
    assert grouped([*several, "sequence public.u keeps its value", "index j of public.a is off"], 1) == [
        "each of 2 sequences (public.s and 1 more) keeps its value",
        "each of 2 indexes (i of public.a and 1 more) is off",
        "public.t keeps its value",
    ]


def test_only_an_ambiguous_table_of_public_has_its_schema() -> None:
    refs = [TableRef("public", "a"), TableRef("public", "b"), TableRef("old", "b"), TableRef("public", "B")]
    assert list(short_names(refs).values()) == ["a", "public.b", "old.b", '"B"']
