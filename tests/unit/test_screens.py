"""The output of the commands on a terminal of 80 columns and 24 lines, without a database."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from rich.console import Console

from confiture.cli import app, progress
from confiture.cli.help_texts import EXAMPLES, EXIT_CODES, key
from confiture.render import status as render
from confiture.status.facts import Report, SourceReport
from confiture.types import Activity, abbreviated, byte_size, duration, in_plain_words, visible
from reported import NOW, RUN, TABLE


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path
    for name, inner in (below or {}).items():
        yield from leaves(inner, (*path, name))


LEAVES = list(leaves(typer.main.get_command(app)))


def run(*words: str, **given: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "confiture", *words], capture_output=True, text=True, check=False, **given
    )


def test_every_command_has_examples_and_exit_codes() -> None:
    names = {key(path) for path in LEAVES}
    assert names - set(EXAMPLES) == names - set(EXIT_CODES) == set()


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_help_of_a_command_is_short_of_types(path: tuple[str, ...]) -> None:
    found = run(*path, "-h")
    assert found.returncode == 0
    assert "Examples:" in found.stdout
    assert "Exit codes:" in found.stdout
    assert " range" not in found.stdout
    assert "<str>" not in found.stdout
    assert "x>=" not in found.stdout


@pytest.mark.parametrize("path", [(), ("migrate",), ("migrate", "schema-to-schema")], ids=len)
def test_a_group_without_a_command_prints_its_help(path: tuple[str, ...]) -> None:
    found = run(*path)
    assert (found.returncode, found.stderr) == (0, "")
    assert "Commands:" in found.stdout


@pytest.mark.parametrize("value", ["0", "x", "1.5"])
def test_a_wrong_number_is_explained_in_plain_words(value: str) -> None:
    found = run("migrate", "schema-to-schema", "migrate", "--target", "x", "--chunk-rows", value)
    assert found.returncode == 2
    assert "it must be" in found.stderr
    assert "Input should" not in found.stderr


def test_a_full_disk_is_reported_without_a_traceback() -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "confiture", "status", "--format", "json", "--target", "x"]
        found = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 3
    assert "no environment" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("name", ["t", "a_table_with_a_very_long_name_that_never_seems_to_end", "表" * 20])
def test_a_report_of_many_tables_fits_a_terminal(name: str) -> None:
    tables = tuple(replace(TABLE, target=f'public."{name}{n}"') for n in range(300))
    lines = render.text(Report(NOW, (replace(RUN, tables=tables),)), height=24).splitlines()
    assert len(lines) < 24
    assert all(cell_len(line) <= 80 for line in lines)
    assert lines[0].startswith("CRITICAL")
    assert lines[-1].endswith("--target prod_new")


@pytest.mark.parametrize("name", ["a\nOK forged", "a\tb", "a\u202eb", "a\x1b[2Jb"])
def test_a_name_with_control_characters_is_one_aligned_column(name: str) -> None:
    names = (f'public."{name}"', "public.other")
    text = render.text(Report(NOW, (replace(RUN, tables=tuple(replace(TABLE, target=n) for n in names)),)))
    first, second = (line for line in visible(text).splitlines() if f" {TABLE.phase} " in line)
    assert first.startswith('"a')
    assert first.index(f" {TABLE.phase} ") == second.index(f" {TABLE.phase} ")


@pytest.mark.parametrize("length", [1, 30, 50, 63, 200])
def test_a_long_address_is_wrapped_at_the_width_of_a_terminal(length: int) -> None:
    source = f"user=postgres dbname={'d' * min(length, 63)} host={'h' * min(length, 63)} port=5432 options={'o' * 60}"
    lines = render.text(Report(NOW, (replace(RUN, source=source, writes_served_by="source"),))).splitlines()
    (first,) = [n for n, line in enumerate(lines) if line.startswith("Writes go to  ")]
    assert all(len(line) <= 80 for line in lines[first : first + 4])
    assert " ".join(" ".join(lines[first:]).split()).startswith(f"Writes go to {source} (source) ")


def test_a_long_error_leaves_severity_and_next_command_visible() -> None:
    text = "blocked by pid 4407 (postgres, psql, active, in a transaction for 16 s: begin; update t set v = 1) " * 4
    errors = tuple({"at": NOW, "kind": "ended", "text": text} for _ in range(3))
    lines = render.text(Report(NOW, (replace(RUN, errors=errors),)), height=24).splitlines()
    assert len(lines) < 24
    assert lines[0].startswith("CRITICAL")
    assert lines[-1].endswith("--target prod_new")
    assert len([line for line in lines if line.endswith(" ...")]) == 1
    assert len(render.text(Report(NOW, (replace(RUN, errors=errors),))).splitlines()) > 24


@pytest.mark.parametrize("count", [1, 3, 9])
def test_long_reasons_leave_severity_and_next_command_visible(count: int) -> None:
    """The longest report: a stopped runner with restarts and limits, on a terminal of 80 columns and 24 lines."""
    reasons = (
        "blocked: missing privilege while copying tb_order to tb_order: permission denied for table x " * 2,
    ) * count
    runner = replace(RUN.runner, alive=False, ended=True, ended_at=NOW, host="a-host-with-a-long-name.example.org")
    limits = {"active": False, "reason": None, "since": None, "limits": {"max_rate": 5}}
    errors = ({"at": NOW, "kind": "blocked", "text": "x " * 300},)
    long = replace(
        RUN, reasons=reasons, runner=runner, restarts=3, throttle=limits, errors=errors, tables=(TABLE,) * 300
    )
    lines = render.text(Report(NOW, (long,)), height=24).splitlines()
    assert len(lines) < 24
    assert lines[0].startswith("CRITICAL")
    assert lines[1].startswith("   why  blocked: missing privilege")
    assert lines[-1].endswith("--target prod_new")


def test_addresses_of_both_sides_are_printed() -> None:
    printed = render.text(Report(NOW, (RUN,)))
    assert "Source  old:5432/app  PostgreSQL 14" in printed
    assert "Target  db:5432/app_new  PostgreSQL 17.1 up" in printed
    by_service: SourceReport = {"host": None, "port": 5432, "database": "app", "version": "14"}
    assert "Source  app  PostgreSQL 14" in render.text(Report(NOW, (replace(RUN, source_server=by_service),)))


def test_the_database_that_reads_go_to_is_printed() -> None:
    assert "Reads go to" not in render.text(Report(NOW, (RUN,)))
    reads = {**RUN.reads, "phase": "open", "since": NOW, "staleness_seconds": 2.1, "max_staleness_seconds": 30.0}
    text = render.text(Report(NOW, (replace(RUN, reads={**reads, "not_kept": ["public.k"]}),)))  # type: ignore[arg-type]
    assert "Reads go to   prod_new (target) since" in text
    assert "at most 3 seconds behind" in " ".join(text.split())
    assert "(limit 30 seconds)" in " ".join(text.split())
    assert "Not kept up to date until the cutover: k" in text


def test_the_age_of_a_backlog_is_printed() -> None:
    """Without a command that applies changes, the number is not that of now."""
    assert "Changes backlog 0 rows, oldest 0 seconds, measured 5 minutes ago" in render.text(Report(NOW, (RUN,)))


def test_reasons_name_tables_of_public_without_the_schema() -> None:
    reasons = ("blocked: source table public.a was changed during the run",)
    printed = render.text(Report(NOW, (replace(RUN, reasons=reasons),)))
    assert "source table a was changed" in " ".join(printed.split())


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_defaults_have_one_style(path: tuple[str, ...]) -> None:
    printed = " ".join(run(*path, "-h").stdout.split())
    assert "[default: (" not in printed
    assert not re.search(r"\[default: \d+\.0\]", printed)


def reported(terminal_: bool, *tables: tuple[str, int, int, Activity]) -> list[str]:
    reporter = progress.Reporter()
    reporter.console = Console(file=io.StringIO(), force_terminal=terminal_, width=200, highlight=False)
    with reporter:
        for table in tables:
            reporter.table(*table)
    lines = reporter.console.file.getvalue().splitlines()
    return [line.partition("Z ")[2] or line for line in lines]


def test_many_tables_that_end_together_are_one_line() -> None:
    tables = [(f"t{n}", 50, 50, Activity.COPIED) for n in range(300)]
    assert reported(False, *tables) == [
        "t0: copied 50 rows",
        "299 tables: copied 14,950 rows (t1, t2, t3, t4 and 295 more)",
    ]


def test_few_tables_have_a_line_each() -> None:
    tables = [("a", 1, 1, Activity.COPIED), ("b", 2, 2, Activity.COPIED), ("c", 3, 3, Activity.COMPARED)]
    assert reported(False, *tables) == ["a: copied 1 row", "b: copied 2 rows", "c: compared 3 rows"]


def test_a_table_that_takes_long_has_a_line_before_it_ends() -> None:
    lines = reported(
        False, ("a", 5, 10, Activity.COPYING), ("a", 10, 10, Activity.COPYING), ("a", 10, 10, Activity.COPIED)
    )
    assert lines == ["a: copying 5/10 rows (50.0 %)", "a: copied 10 rows"]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("table public.a was changed", "table a was changed"),
        ('table public."A b" was changed', 'table "A b" was changed'),
        ("tables public.a and app.a differ, public.b too", "tables public.a and app.a differ, b too"),
        (
            "role r lacks it on public.a: GRANT INSERT ON public.a TO r",
            "role r lacks it on a: GRANT INSERT ON public.a TO r",
        ),
        ("omit public.a: $omit: [public.a]", "omit a: $omit: [public.a]"),
        ("function public.f(text) fails", "function public.f(text) fails"),
        ('relation "public.a" does not exist', 'relation "public.a" does not exist'),
        ("read /srv/public.a/b", "read /srv/public.a/b"),
    ],
)
def test_sentences_omit_public_and_statements_keep_it(text: str, printed: str) -> None:
    assert in_plain_words(text) == printed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 seconds"),
        (0.9, "0 seconds"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (100, "1 minute and 40 seconds"),
        (659, "10 minutes"),
        (3599, "59 minutes"),
        (3 * 3600 + 5 * 60 + 59, "3 hours and 5 minutes"),
        (8.6e12, "more than 30 years"),
        (float("inf"), "more than 30 years"),
        (3 * 86400, "3 days"),
        (86400 + 3599, "1 day"),
        (400 * 86400 + 2 * 3600, "400 days and 2 hours"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10.0k"),
        (999_499, "999k"),
        (999_999, "1.00M"),
        (1_213_004_411, "1.21B"),
        (2**53, "9.01P"),
    ],
)
def test_numbers_have_at_most_three_digits_and_a_letter(number: float, text: str) -> None:
    assert abbreviated(number) == text


def test_sizes_of_bytes_have_binary_units() -> None:
    assert [byte_size(n) for n in (1023, 2**26, 2**30 - 1)] == ["1023 Bytes", "64.0 MiB", "1.0 GiB"]


def test_dates_have_a_year_and_short_ages_have_seconds() -> None:
    printed = render.text(Report(NOW, (RUN,)))
    assert "2026-01-01 11:59Z (40 seconds)" in printed
    assert "1 session is blocked" in printed
