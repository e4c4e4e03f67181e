"""The page about a run as HTML, and the requests that its server answers, without a database."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from confiture.cli import serve
from confiture.errors import UsageError
from confiture.status.details import (
    ApprovalFacts,
    ComparedTable,
    Comparison,
    Details,
    Event,
    FoundDifference,
    PageFacts,
)
from confiture.status.facts import DiskReport, ForecastReport, Report, RunReport, Severity
from confiture.web import access, latest, page
from confiture.web.access import Access
from reported import RUN, TABLE

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'`&amp;",
    "</table></style>",
    "a\u202eb",
    "📦\u200f",
    "a\nb\x1b[2J",
    "{{ 7 * 7 }}",
)
TOKEN = "a-token-of-enough-length"


def facts(run: RunReport, details: Details | None = None) -> PageFacts:
    return PageFacts(Report(NOW, (run,)), {run.id: details or Details()})


def text(html: str) -> str:
    """The text of a page without its elements, style and script."""
    return re.sub(r"<[^>]+>", "", re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S))


class Structure(HTMLParser):
    """The elements of a page in their order, each with the names of its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))


def everywhere(name: str) -> str:
    """A page that has the name in each place that the database or a person determines."""
    run = replace(RUN, source=name, target=name, reasons=(name,), blocked_reason=name, leave_alone=name, undo=name)
    run = replace(run, tables=(replace(TABLE, target=name, last_error=name, failed_chunks=1),), stale_views=(name,))
    run = replace(
        run, errors=({"at": NOW, "kind": name, "text": name},), next={**RUN.next, "action": name, "command": name}
    )
    return page.html(facts(run, details(name)))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_never_part_of_the_markup(name: str) -> None:
    html = everywhere(name)
    assert Structure(html).found == Structure(everywhere("x")).found
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert ("49" in text(html)) == ("49" in text(everywhere("x")))


def details(name: str) -> Details:
    event = Event(NOW, name, name, "setup", name)
    found = FoundDifference(name, name, ((name, name),), name, name, name)
    compared = (ComparedTable(name, 1, 1, 1, False, NOW, (name,)),)
    repeated = (Comparison(name, name, name),)
    approval = ApprovalFacts(True, name, NOW, name, name)
    return Details(
        (event,),
        1,
        compared,
        differences=(found,),
        values_shown=True,
        comparisons=repeated,
        settings=(name,),
        approval=approval,
    )


def test_values_are_hidden_unless_they_are_wanted() -> None:
    found = FoundDifference("public.b", "value differs", (("id", None),), "name", None, None)
    html = page.html(facts(RUN, Details(differences=(found,))))
    assert text(html).count("hidden") == 4  # the key, both values, and the sentence about them
    assert "id=5" not in html
    assert "--show-values" in html
    shown = replace(found, key=(("id", "7"),), source_value="old text")
    html = page.html(facts(RUN, Details(differences=(shown,), values_shown=True)))
    assert "old text" in html
    assert "id=5" in html
    assert "NULL" in html
    assert "--show-values" not in html


def test_a_page_of_a_thousand_tables_is_complete_and_below_two_megabytes() -> None:
    tables = tuple(replace(TABLE, target=f'public."table number {n} with quite a long name"') for n in range(1000))
    compared = tuple(ComparedTable(t.target, 9, 9, 9, True, NOW, ("extra",)) for t in tables)
    html = page.html(facts(replace(RUN, tables=tables), Details(compared=compared)))
    assert [n for n in range(1000) if f"table number {n} with" not in html] == []
    assert len(html) < 2 * 2**20


def test_a_page_needs_no_other_file_and_permits_no_other_source() -> None:
    html = page.html(facts(RUN))
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]+"', html) == []
    assert " style=" not in html
    assert re.findall(r"\son\w+=", html) == []
    assert "connect-src" not in page.policy(live=False)
    assert "connect-src 'self'" in page.policy(live=True)
    assert "unsafe" not in page.policy(live=True)


def test_a_file_has_the_document_of_its_report_and_a_server_a_link() -> None:
    shown = facts(replace(RUN, source="</a><b>"), Details())
    (document,) = re.findall(r'href="data:application/json;base64,([^"]+)" download', page.html(shown))
    assert json.loads(base64.b64decode(document)) == json.loads(json.dumps(shown.report.as_json()))
    assert "application/json" not in page.html(shown, live=True)


def test_the_forecast_stands_beside_what_is_used() -> None:
    forecast = ForecastReport(recorded_at=NOW, copy_seconds=60, seconds=90, elapsed_seconds=30, ready_at=None)
    disk = DiskReport(expected=2**30, used=2**20, free=None, missing=0, full_in_seconds=None)
    shown = page.html(facts(replace(RUN, forecast=forecast, disk=disk), Details()))
    assert "about 1 minute and 30 seconds until the cutover, 1 minute of it for the copy; 30 seconds so far" in shown
    assert "disk 1.0 MiB of about 1.0 GiB" in shown


def test_a_report_without_a_run_is_a_page_too() -> None:
    assert "no run exists" in page.html(PageFacts(Report(NOW, ()), {}))
    unknown = page.html(PageFacts(Report(NOW, (), ("cannot connect to <b>",)), {}))
    assert "UNKNOWN" in text(unknown)
    assert "cannot connect to &lt;b&gt;" in unknown


def test_a_stale_page_states_the_reason_and_is_no_longer_ok() -> None:
    html = page.html(facts(replace(RUN, severity=Severity.OK)), live=True, lost="no route to <host>")
    assert "This page is stale:" in html
    assert '<header class="banner stale">' in html
    assert '<span class="severity">was OK</span>' in html
    assert "no route to &lt;host&gt;" in html
    assert "<title>UNKNOWN" in html
    assert 'class="foot old"' in html


# Requests -----------------------------------------------------------------------------------------


def status(granted: Access, method: str = "GET", path: str = "/", **headers: str) -> int:
    found = granted.refusal(method, path, headers)
    return 200 if found is None else found.status


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8787", "localhost", "LOCALHOST:1", "[::1]:80", "127.9.9.9", "localhost.:8"]
)
def test_a_name_of_this_machine_is_answered_without_a_token(host: str) -> None:
    assert status(Access(None, "127.0.0.1"), host=host) == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "[", "evil@localhost.x", "192.168.0.1"]
)
def test_another_name_is_refused_without_a_token(host: str) -> None:
    assert status(Access(None, "127.0.0.1"), host=host) == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"])
def test_a_method_that_could_change_something_is_refused(method: str) -> None:
    assert status(Access(None, "127.0.0.1"), method, host="localhost") == 405
    assert status(Access(TOKEN, "0.0.0.0"), method, authorization=f"Bearer {TOKEN}") == 405


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"any:{token}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "wanted"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN}", 200),
        (basic(TOKEN), 200),
        (basic(TOKEN + ":"), 401),
        (basic(TOKEN[:-1]), 401),
        ("Basic !", 401),
        (f"Digest {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer ", 401),
        ("", 401),
        ("Bearer ä", 401),
    ],
)
def test_only_the_token_opens_a_server_for_other_machines(authorization: str, wanted: int) -> None:
    granted = Access(TOKEN, "0.0.0.0")
    assert status(granted, authorization=authorization, host="any.example") == wanted
    assert status(granted, path="/healthz", authorization=authorization) == 200
    assert TOKEN not in repr(granted)


def test_a_token_is_created_once_and_only_this_user_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "state" / "token"
    token = access.read_or_create(file)
    assert len(token) >= 43
    assert file.stat().st_mode & 0o777 == 0o600
    assert access.read_or_create(file) == token
    file.chmod(0o640)
    with pytest.raises(UsageError, match="other users may read"):
        access.read_or_create(file)
    file.chmod(0o600)
    file.write_text("short\n")
    with pytest.raises(UsageError, match="cannot be used"):
        access.read_or_create(file)
    with pytest.raises(UsageError, match="cannot be used"):
        access.read_or_create(file / "below")


def test_missing_packages_of_the_server_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "confiture.web.server", raising=False)
    with pytest.raises(UsageError) as refused:
        serve.serve("any")
    assert "pip install 'confiture[web]'" in refused.value.fix


# The facts for all readers -------------------------------------------------------------------------


def test_many_readers_cause_one_look_at_the_target() -> None:
    looks = []

    def read() -> PageFacts:
        looks.append(1)
        return facts(RUN)

    async def readers() -> None:
        newest = latest.Latest(read)
        found = await asyncio.gather(*(newest.get() for _ in range(50)))
        assert len({one.html for one in found}) == 1

    asyncio.run(readers())
    assert len(looks) == 1


def test_a_target_that_does_not_answer_leaves_the_page_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(latest, "PATIENCE_SECONDS", 0.01)
    hang, go = threading.Event(), threading.Event()

    def read() -> PageFacts:
        if hang.is_set():
            go.wait()
        return facts(RUN)

    async def readers() -> None:
        newest = latest.Latest(read)
        assert b"This page is stale" not in (await newest.get()).html
        hang.set()
        for _ in range(3):
            found = await newest.get()
            assert b"the target does not answer" in found.html
            assert RUN.id.encode() in found.html
            assert found.report.severity is Severity.UNKNOWN
        go.set()
        hang.clear()
        monkeypatch.setattr(latest, "PATIENCE_SECONDS", 60.0)
        assert b"This page is stale" not in (await newest.get()).html

    asyncio.run(readers())


def test_a_defect_reaches_the_reader_and_the_next_one_looks_again() -> None:
    answers = [RuntimeError("defect"), facts(RUN)]

    def read() -> PageFacts:
        answer = answers.pop(0)
        if isinstance(answer, PageFacts):
            return answer
        raise answer

    async def readers() -> None:
        newest = latest.Latest(read)
        with pytest.raises(RuntimeError):
            await newest.get()
        assert (await newest.get()).report.runs

    asyncio.run(readers())
