"""The page in headless Chromium: hostile names, many tables, each state, narrow, dark, printed, and refreshed."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

import courses
import small_move
from browsers import Browser, browser
from confiture.journal.model import TablePhase
from confiture.status.details import ComparedTable, Comparison, Details, Event, FoundDifference, PageFacts
from confiture.status.facts import Report, RunReport
from confiture.web import page
from forked import Forks, until
from projects import run_confiture
from reported import RUN, TABLE
from servers import Databases
from small_move import SmallMove

pytestmark = pytest.mark.xdist_group("browser")  # one worker starts it, once

HOSTILE = (
    "<script>document.title='broken'</script>",
    "\"'`><img src=x onerror=document.title='broken'>",
    "</title></style></script><h1>broken</h1>",
    "שלום עולם",
    "📦 déjà vu",
    "{{ 7 * 7 }}{% raise %}",
    "a" * 63,
)
#: The text of all elements that match a selector, in one call.
TEXTS = "(selector => [...document.querySelectorAll(selector)].map(e => e.textContent).join('|'))"
#: The number of elements that match a selector and that a reader sees.
SEEN = "(selector => [...document.querySelectorAll(selector)].filter(e => e.checkVisibility()).length)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def written(folder: Path, names: list[str], run: RunReport = RUN) -> Path:
    """The file of a page with these target tables, in which everything else has the name of the first one too."""
    name = names[0]
    finished = replace(TABLE, phase=TablePhase.FINISHED)
    tables = tuple(replace(finished if n != name else TABLE, target=n) for n in names)
    details = Details(
        (Event(courses.at(9), "blocked", name, None, name), Event(courses.BEGAN, "created", name, "setup", name)),
        2,
        tuple(ComparedTable(n, 9, 9, 9, n != name, courses.NOW, (name,)) for n in names),
        differences=(FoundDifference(name, "value differs", ((name, name),), name, name, None),),
        values_shown=True,
        course=courses.course(names),
        comparisons=(Comparison(name, f"SELECT {name}", f"SELECT {name}"),),
        settings=("SET x = y",),
    )
    shown = replace(run, tables=tables, source=name, target=name, reasons=(name,))
    path = folder / "page.html"
    path.write_text(page.html(PageFacts(Report(courses.NOW, (shown,)), {run.id: details})), encoding="utf-8")
    return path


def test_hostile_names_are_text(chromium: Browser, tmp_path: Path) -> None:
    for number, name in enumerate(HOSTILE):
        chromium.open(written(tmp_path, [name, *HOSTILE]))
        assert "broken" not in chromium.texts("h1, h2")
        assert name in chromium.text("h1")
        assert name in chromium.script(f"return {TEXTS}('tbody th')")
        assert name in chromium.script(f"return {TEXTS}('svg .name')")
        assert chromium.script("return document.title").startswith("CRITICAL ")
        assert chromium.script("return document.querySelectorAll('script').length") == 1
        assert chromium.script("return document.querySelectorAll('img').length") == 0
        assert chromium.complaints() == []
        chromium.keep(f"hostile-{number}")


def test_a_thousand_tables_are_readable(chromium: Browser, tmp_path: Path) -> None:
    path = written(tmp_path, [f"public.table_{n}" for n in range(1000)])
    assert path.stat().st_size < 2 * 2**20
    chromium.open(path)
    assert chromium.script("return document.querySelectorAll('.chart .name').length") == 1000
    assert chromium.script(f"return {SEEN}('table.tables tbody tr')") == page.TABLES_SHOWN
    chromium.click("details[id^=more-tables] summary")
    assert chromium.script(f"return {SEEN}('table.tables tbody tr')") == 1000
    chromium.click("details[id^=rest] summary")
    height = "document.querySelector('details[id^=rest] svg').getBoundingClientRect().height"
    assert chromium.script(f"return {height}") > 9000
    assert chromium.complaints() == []
    chromium.keep("thousand")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_a_narrow_window_in_both_themes(chromium: Browser, tmp_path: Path, scheme: str) -> None:
    """At a zoom of 400 %, a window of 1280 pixels is 320 pixels wide (WCAG 2.2, 1.4.10)."""
    path = written(tmp_path, ["public.a_table_with_a_name_that_is_much_too_long_for_a_narrow_window", *HOSTILE])
    chromium.media(prefers_color_scheme=scheme)
    try:
        for width in (320, 1280):
            chromium.open(path, width)
            assert chromium.script("return document.documentElement.scrollWidth") <= width
            ground, ink = chromium.script(
                "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
            )
            light, dark = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ground, ink))
            assert (light > dark) == (scheme == "light")
            assert abs(light - dark) > 600
            chromium.keep(f"{scheme}-{width}")
    finally:
        chromium.media()


def test_charts_and_tables_have_names_for_screen_readers(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, ["public.a", "public.b"]))
    nodes = chromium.command("Accessibility.getFullAXTree")["nodes"]
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    images = [name for role, name in named if role in ("image", "img", "graphics-document")]
    assert "Tables over time" in images
    assert any(name.startswith("Rehearsed write pause") for name in images)
    assert all(images)
    need_names = ("region", "button", "checkbox", "link", "heading", "progressbar")
    assert all(name for role, name in named if role in need_names)
    levels = chromium.script("return [...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    identifiers = chromium.script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(identifiers) == len(set(identifiers))


def test_a_page_is_printed_on_a4_with_its_folded_parts(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, [f"public.t{n}" for n in range(60)]))
    sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", chromium.printed())
    assert len(sizes) >= 3
    assert {(round(float(w)), round(float(h))) for w, h in sizes} == {(595, 842)}
    chromium.command("Emulation.setEmulatedMedia", media="print")
    chromium.open(tmp_path / "page.html", 794)
    assert chromium.script(f"return {SEEN}('table.tables tbody tr')") == 60
    assert chromium.texts("button") == []
    chromium.keep("print")
    chromium.command("Emulation.setEmulatedMedia", media="")


def test_a_page_is_complete_without_scripts(chromium: Browser, tmp_path: Path) -> None:
    chromium.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(written(tmp_path, ["public.a", "public.b"]))
        text = chromium.text()
        titles = ("States", "Course", "Tables", "Cutover", "Verification", "Timeline")
        for part in (*titles, "Made 2026-01-01 12:00:00 UTC"):
            assert part in text
        assert chromium.texts("button") == []
        assert len(chromium.texts(".events li")) == 2
        chromium.click(".f-fault")
        assert len(chromium.texts(".events li")) == 1
    finally:
        chromium.command("Emulation.setScriptExecutionDisabled", value=False)


def test_the_next_command_is_copied_or_selected(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, ["public.a"]))
    chromium.click(".next button.copy")
    until(lambda: chromium.text(".next button.copy") in ("Copied", "Selected"), "the command to be copied")


# Real runs -----------------------------------------------------------------------------------------


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    return small_move.make(databases, tmp_path)


def test_each_state_is_shown_with_its_next_command(chromium: Browser, move: SmallMove, tmp_path: Path) -> None:
    given = ("--target", move.target.name, "--project", str(move.project))
    wanted = {
        "setup": ("setup", "migrate"),
        "migrate": ("migrating", "verify"),
        "verify": ("verified", "cutover"),
        "cutover": ("cutover", "cleanup"),
        "cleanup": ("cleaned", None),
    }
    for step, (state, following) in wanted.items():
        more = ("--mapping", str(move.mapping), "--chunk-rows", "40") if step == "setup" else ()
        move.run(step, *more)
        run_confiture("status", *given, "--html", str(tmp_path / "state.html"), cwd=tmp_path, check=0)
        chromium.open(tmp_path / "state.html")
        assert chromium.text("[aria-current=step] strong").startswith(state)
        commands = chromium.texts(".next code")
        assert (f" {following} " in commands[0]) if following else commands == []
        served = "target" if state in ("cutover", "cleaned") else "source"
        assert f"({served})" in chromium.text(".answers dd")
        assert chromium.text(".severity") == "OK"
        assert chromium.complaints() == []
        chromium.keep(f"state-{state}")


def test_an_open_page_refreshes_itself_and_shows_a_lost_server(
    chromium: Browser, move: SmallMove, forks: Forks, tmp_path: Path
) -> None:
    given = ("--target", move.target.name, "--project", str(move.project))
    move.setup()
    served = forks.start(["serve", *given, "--port", "0"], tmp_path)
    try:
        until(lambda: "until Ctrl-C" in served.out.read_text(), "the address of the server")
        chromium.open(re.search(r"http://\S+", served.out.read_text())[0])  # type: ignore[index]
        chromium.click(".f-command")
        chromium.script("window.opened = true")
        move.run("pause")
        until(lambda: "pause" in chromium.script(f"return {TEXTS}('.events li')"), "the page to refresh itself")
        assert chromium.script("return window.opened")  # it was not loaded again
        assert chromium.script("return document.querySelector('.f-command').checked") is False
        assert "pause" in chromium.texts(".events li")[0]
        assert chromium.complaints() == []
        served.signal(signal.SIGINT)
        assert served.wait().code == 0
        foot = f"return {TEXTS}('.foot')"
        until(lambda: "cannot be reached" in chromium.script(foot), "the page to notice that its server has ended")
        assert "aged" in chromium.driver.find_element("css selector", ".foot").get_attribute("class")
        chromium.keep("lost")
    finally:
        chromium.open("about:blank")
