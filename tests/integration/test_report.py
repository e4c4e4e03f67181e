"""``confiture report``: one run with hostile names in each of its states, as a page and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from confiture import commands
from confiture.errors import CannotConnect
from confiture.journal import viewed
from confiture.schema_to_schema.outcomes import Limits
from confiture.status.sign_off import SignOff, TableFacts
from confiture.status.sign_off_reader import sign_off
from confiture.web import sign_off as page
from conftest import ROOT, Confiture
from live import LiveRun
from servers import Databases

#: The names of a table and of a column, for HTML, SQL and a terminal; and a value that must not be shown.
TABLE, COLUMN, SECRET = '<script>alert("1")</script>\u202eתבי', "it's </pre> & 😀", "hush</td>"
NOTE = "<b>CHG-1"
NAME, FIELD = (f'"{name.replace(chr(34), chr(34) * 2)}"' for name in (TABLE, COLUMN))
OLD = f"""
CREATE TABLE {NAME} (id int PRIMARY KEY, {FIELD} text, at timestamptz DEFAULT '2026-01-01', n float8 DEFAULT 0.1);
INSERT INTO {NAME} (id, {FIELD}) SELECT n, 'value ' || n FROM generate_series(1, 60) n;
"""
MAPPING = f"""
{json.dumps(NAME, ensure_ascii=False)}:
  {json.dumps(FIELD, ensure_ascii=False)}:
    transform: {json.dumps(f"lower({FIELD})", ensure_ascii=False)}
    reverse: {json.dumps(FIELD, ensure_ascii=False)}
"""
NEW = f"CREATE TABLE {NAME} (id bigint PRIMARY KEY, {FIELD} text, at timestamptz, n float8, added text DEFAULT 'new');"


class Elements(HTMLParser):
    """The elements of a page, each with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


class Reported:
    """The reports about one run."""

    def __init__(self, live: LiveRun) -> None:
        self.live = live
        self.schema = json.loads((ROOT / "src/confiture/schemas/report.json").read_text())

    def __call__(self, state: str, *, show_values: bool = False) -> tuple[SignOff, str]:
        """The report, which is checked, and its page."""
        found = sign_off(self.live.target.conninfo, self.live.project, show_values=show_values)
        assert found.state == state
        text = page.html(found)
        elements = Elements()
        elements.feed(text)
        assert {tag for tag, _ in elements.found}.isdisjoint({"script", "img", "iframe", "object", "a"})
        assert [tag for tag, with_ in elements.found if "src" in with_ or "style" in with_] == []
        assert "://" not in text, "it refers to another place"
        assert "\u202e" not in text
        jsonschema.validate(json.loads(json.dumps(found.as_json())), self.schema)
        assert (SECRET in json.dumps(found.as_json())) == show_values
        assert (SECRET.replace("<", "&lt;").replace(">", "&gt;") in text) == show_values
        return found, text


def repeated(live: LiveRun, found: SignOff, table: TableFacts) -> bool:
    """Whether the statements of the report return the same on both sides."""
    results = []
    for side, statement in ((live.source, table.comparison.source), (live.target, table.comparison.target)):
        with side.connect() as connection:
            for setting in found.settings:
                connection.execute(setting.encode())
            results.append(connection.execute(statement.encode()).fetchone())
    assert results[0] is not None
    assert results[0][0] == 60
    return bool(results[0] == results[1])


@contextmanager
def operator(live: LiveRun) -> Iterator[str]:
    """A role that may read the journal without values, and approve; it exists for the block only."""
    role = f"{live.target.name}_operator"
    live.target.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        live.target.sql(";".join(viewed.grants_of_operator(live.target.name, role)))
        yield role
    finally:
        live.target.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def approve(live: LiveRun) -> None:
    """Approve the last verification as another role."""
    ((run, plan, number),) = live.target.rows(
        "SELECT id, plan_hash, (SELECT max(number) FROM confiture.verification) FROM confiture.run"
    )
    with operator(live) as role:
        live.target.sql(
            f"SET SESSION AUTHORIZATION {role}; INSERT INTO confiture.approval"
            f" (run_id, plan_hash, verification, actor, note) VALUES ('{run}', '{plan}', {number}, 'a test', '{NOTE}')"
        )


def test_report_in_each_state_of_a_run_with_hostile_names(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, OLD, NEW, MAPPING)
    report = Reported(live)
    with pytest.raises(CannotConnect) as lost:
        sign_off(live.target.server.conninfo(live.target.name, password="never-shown"), live.project)
    assert "never-shown" not in " ".join(lost.value.lines())
    live.setup()
    found, _ = report("setup")
    assert found.verification.number is None
    assert [f.actual for f in found.forecasts[:4]] == [None] * 4
    live.migrate()
    found, _ = report("migrating")
    assert [(t.rows_copied, t.equal) for t in found.tables] == [(60, None)]
    live.tamper(f"UPDATE {NAME} SET {FIELD} = '{SECRET}' WHERE id = 7")
    assert not live.verify().equal
    live.target.sql(
        f"UPDATE confiture.run SET blocked_reason = 'a row has {SECRET}', blocked_command = 'verify';"
        " INSERT INTO confiture.event (run_id, epoch, kind, actor, detail) SELECT id, epoch, kind, 'a test',"
        " jsonb_build_object('reason', blocked_reason) FROM confiture.run, (VALUES ('blocked'), ('abort'),"
        " ('reopen'), ('stale view'), ('of a later version')) v(kind)"
    )
    found, text = report("migrating", show_values=True)
    assert [(d.column, d.target_value) for d in found.differences] == [(COLUMN, SECRET)]
    found, text = report("migrating")
    assert [(d.column, d.target_value, d.key) for d in found.differences] == [(COLUMN, None, (("id", None),))]
    assert "The values of rows are hidden" in text
    with operator(live) as role:
        conninfo = live.target.server.conninfo(live.target.name, user=role, password="x")
        of_viewer = sign_off(conninfo, live.project, show_values=True)
    assert SECRET not in json.dumps(of_viewer.as_json())
    assert [d.column for d in of_viewer.differences] == [COLUMN]
    (table,) = found.tables
    assert not table.equal
    assert not repeated(live, found, table)
    assert live.verify(repair=True).equal
    found, _ = report("verified")
    (table,) = found.tables
    assert (table.equal, table.source_rows, table.target_rows, table.not_compared) == (True, 60, 60, ("added",))
    assert repeated(live, found, table)
    assert [(r.table, r.rows) for r in found.repairs] == [(table.target, 1)]
    assert not found.approval_required
    assert found.approval is None
    approve(live)
    found, text = report("verified")
    assert found.approval is not None
    assert (found.approval.note, found.approval.verification, found.approval.void) == (
        NOTE,
        found.verification.number,
        None,
    )
    assert "&lt;b&gt;CHG-1" in text
    commands.cutover.rehearse(live.where, Limits(), tmp_path / "d.jsonl", live.progress)
    live.cutover()
    found, text = report("cutover")
    assert [(p.rehearsed, p.complete) for p in found.pauses] == [(True, True), (False, True)]
    assert "Writes were paused from" in text
    live.cleanup()
    found, text = report("cleaned")
    assert [span.state for span in found.states] == ["setup", "migrating", "verified", "cutover", "cleaned"]
    assert found.plan is not None
    assert found.plan.hash in text
    assert [f.what for f in found.forecasts] == ["copy", "indexes", "verification", "write pause", "disk"]
    assert all(f.actual is not None and f.actual > 0 for f in found.forecasts)
    assert found.forecasts[3].actual == found.pauses[1].seconds
    assert found.plan.mapping == MAPPING


def test_report_is_written_whole_or_the_error_names_the_path(
    databases: Databases, tmp_path: Path, confiture: Confiture
) -> None:
    live = LiveRun(
        databases, tmp_path / "project", "CREATE TABLE t (id int PRIMARY KEY);", "CREATE TABLE t (id int PRIMARY KEY);"
    )
    live.setup()
    where = ["report", "--target", live.target.conninfo, "--project", str(live.project)]
    lost = confiture(*where, "--output", str(tmp_path / "no folder/report.html"), check=2)
    assert "no folder/report.html cannot be written" in lost.stderr
    path = tmp_path / "report.html"
    assert str(path) in confiture(*where, "--output", str(path)).stdout
    assert path.read_text().startswith("<!doctype html>")
    assert json.loads(confiture(*where, "--format", "json").stdout)["state"] == "setup"
    confiture(*where, "--output", str(tmp_path / "report.json"), "--show-values")
    assert json.loads((tmp_path / "report.json").read_text())["values_shown"]
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o600
    live.abort()
    assert json.loads(confiture(*where, "--format", "json").stdout)["state"] == "aborted"
    assert re.search("has no run|no journal", confiture(*where[:2], live.source.conninfo, check=4).stderr)
