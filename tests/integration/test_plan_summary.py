"""The plan as text: the largest tables, one a line, and a summary in which equal reasons are printed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.commands.options import RunOptions
from confiture.commands.plan import make, next_command, table_named
from confiture.errors import Refused, UsageError
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
    return f"{listed}\n{render.summary(planned.plan, captured=planned.captured, following=following)}"


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


def test_table_is_found_with_and_without_its_schema(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, KEYLESS, KEYLESS)
    plan = live.plan()
    assert table_named(plan, "lookup1") == table_named(plan, "public.lookup1")
    with pytest.raises(UsageError, match="no table nowhere"):
        table_named(plan, "nowhere")


def test_equal_refusals_of_several_tables_are_one(databases: Databases, tmp_path: Path) -> None:
    parent = "CREATE TABLE parent (id int PRIMARY KEY);"
    children = "".join(f"CREATE TABLE child{n} (PRIMARY KEY (id)) INHERITS (parent);" for n in range(6))
    live = LiveRun(databases, tmp_path, parent + children, parent + children)
    with pytest.raises(Refused) as refused:
        live.plan()
    assert "each of 7 tables (public.child0, public.child1, public.child2, public.child3, ...) is part of" in str(
        refused.value.why
    )


def test_sentences_are_grouped_by_what_they_say() -> None:
    assert grouped(["public.a is old", '"A b"."c d" is old', "public.e is new", "nothing of a table"]) == [
        'each of 2 tables (public.a, "A b"."c d") is old',
        "public.e is new",
        "nothing of a table",
    ]


def test_only_an_ambiguous_table_of_public_has_its_schema() -> None:
    refs = [TableRef("public", "a"), TableRef("public", "b"), TableRef("old", "b"), TableRef("public", "B")]
    assert list(short_names(refs).values()) == ["a", "public.b", "old.b", '"B"']
