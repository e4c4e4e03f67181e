"""The page about the runs as one HTML document: no other file and no other host is needed to show it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Generic, Literal, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from confiture import __version__
from confiture.journal.model import LEASE_SECONDS, TablePhase
from confiture.render import lines, media
from confiture.render import status as phrases
from confiture.states import MIGRATIONS, SCHEMA_TO_SCHEMA, SYNC, Medium
from confiture.status.details import Category, ComparedTable, Details, PageFacts
from confiture.status.facts import Report, RunnerReport, RunReport, Severity, TableReport
from confiture.status.media import MigrationsReport, MigrationsRun, SyncRunReport
from confiture.types import counted, duration, in_plain_words, visible, without_public
from confiture.web.axis import axis
from confiture.web.curves import Curves, curves
from confiture.web.gantt import Gantt, gantt
from confiture.web.pause import PauseBar, pause_bar
from confiture.web.rail import Station, stations

#: Seconds between two looks of an open page at the server.
REFRESH_SECONDS = 5
#: Tables that are listed openly; of more tables, the others are in a part of the page that can be unfolded.
TABLES_SHOWN = 25


def html(facts: PageFacts, *, live: bool = False, lost: str | None = None) -> str:
    """The document.

    :param live: whether a server answers the next request too, so that the page refreshes itself.
    :param lost: why the facts are not those of now; None if they are.
    """
    report = facts.report
    shown = [_part(part, facts, report) for part in report.shown]
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            shown=shown,
            severity=Severity.UNKNOWN if lost is not None and report.severity < Severity.CRITICAL else report.severity,
            live=live,
            document=None if live else _document(report),
            lost=lost,
            refresh=REFRESH_SECONDS,
            lease=LEASE_SECONDS,
            version=__version__,
            policy=policy(live=live),
            style=Markup(asset("page.css")),
            script=Markup(asset("page.js")),
            categories=tuple(Category),
        )
    )


def _document(report: Report) -> str:
    """The address of the document of ``status --format json``, which contains it: a file has no server to ask."""
    text = json.dumps(report.as_json(), separators=(",", ":"), ensure_ascii=False)
    return f"data:application/json;base64,{base64.b64encode(text.encode()).decode()}"


def policy(*, live: bool) -> str:
    """The Content-Security-Policy: only the style and the script of the page, and requests to its own server if any."""
    sources = {
        "default-src": "'none'",
        "style-src": f"'sha256-{_digest('page.css')}'",
        "script-src": f"'sha256-{_digest('page.js')}'",
        "img-src": "data:",
        **({"connect-src": "'self'"} if live else {}),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {source}" for name, source in sources.items())


@cache
def asset(name: str) -> str:
    """A file beside the templates."""
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _digest(name: str) -> str:
    return base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()


@cache
def environment() -> Environment:
    """The templates, with their filters."""
    environment = Environment(
        loader=PackageLoader("confiture.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters |= {
        "counted": counted,
        "duration": duration,
        "instant": _instant,
        "moment": _moment,
        "note": _note,
        "number": lambda number: f"{number:,}",
        "plain": in_plain_words,
        "severity": lambda severity: Severity(severity).name,
    }
    environment.globals |= {"lines": lines, "media": media, "phrases": phrases}
    return environment


def _finalized(value: object) -> object:
    """Escape control characters, and those that change the direction of writing, in every text that is printed."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S.%f}"[:-3] + " UTC"


def _note(table: TableReport, values_shown: bool) -> str:
    """The failure or the progress of a table; its last key only where values are shown."""
    if table.failed_chunks:
        return f"{counted(table.failed_chunks, 'chunk')} failed: {table.last_error or ''}"
    if table.phase is TablePhase.INDEXING:
        return f"{table.rebuilt} of {table.to_rebuild} indexes and constraints"
    return (table.checkpoint or "") if values_shown else ""


# One run -------------------------------------------------------------------------------------------

T = TypeVar("T")
Heartbeat = Literal["new", "old", "none"]


@dataclass(frozen=True, slots=True)
class Folded(Generic[T]):
    """A list of which the page shows one part openly, and the other when it is unfolded."""

    shown: tuple[T, ...]
    more: tuple[T, ...]


def folded(items: Sequence[T], urgent: Callable[[T], bool]) -> Folded[T]:
    """The urgent items and, where there is room, others openly."""
    if len(items) <= TABLES_SHOWN:
        return Folded(tuple(items), ())
    first = [item for item in items if urgent(item)]
    rest = [item for item in items if not urgent(item)]
    shown = (first + rest)[:TABLES_SHOWN]
    return Folded(tuple(shown), tuple((first + rest)[TABLES_SHOWN:]))


@dataclass(frozen=True, slots=True)
class ShownRun:
    """One run as the templates read it.

    :ivar names: of each target table, short where that is not ambiguous.
    :ivar heartbeat: whether a command holds the run, ``old`` if its heartbeat is, ``none`` if no command does.
    :ivar earlier: syncs of the same target before this one.
    """

    run: RunReport | SyncRunReport
    details: Details
    names: Mapping[str, str]
    rail: tuple[Station, ...]
    tables: Folded[TableReport]
    compared: Folded[ComparedTable]
    gantt: Gantt | None
    curves: Curves
    pauses: tuple[PauseBar, ...]
    heartbeat: Heartbeat
    earlier: tuple[SyncRunReport, ...] = ()

    @property
    def medium(self) -> Medium:
        """The medium of the run."""
        return SCHEMA_TO_SCHEMA if isinstance(self.run, RunReport) else SYNC

    @property
    def rows_compared(self) -> int:
        """Rows of the source in the last verification."""
        return sum(t.rows for t in self.details.compared)

    @property
    def rows_of_all(self) -> int:
        """Rows of all tables as the copy has counted them; at least those that were compared."""
        return sum(max(t.rows, t.of_all) for t in self.details.compared)


@dataclass(frozen=True, slots=True)
class ShownMigrations:
    """The migrations of a database as the templates read them, with their last run."""

    report: MigrationsReport
    run: MigrationsRun
    details: Details
    heartbeat: Heartbeat

    @property
    def medium(self) -> Medium:
        """The medium of the run."""
        return MIGRATIONS


def _part(
    part: RunReport | MigrationsReport | SyncRunReport, facts: PageFacts, report: Report
) -> ShownRun | ShownMigrations:
    if isinstance(part, MigrationsReport):
        return ShownMigrations(part, part.run, facts.of(part.run), _heartbeat(part.run.runner))
    earlier = () if isinstance(part, RunReport) else report.before(part)
    return replace(_shown(part, facts.of(part)), earlier=earlier)


def _heartbeat(runner: RunnerReport) -> Heartbeat:
    return "new" if runner.alive else "none" if runner.ended else "old"


def _shown(run: RunReport | SyncRunReport, details: Details) -> ShownRun:
    names = without_public({*(t.target for t in run.tables), *(t.target for t in details.compared)})
    course = details.course
    on = axis(course) if course is not None else None
    compared = [t for t in details.compared if t.compared_at is not None]
    return ShownRun(
        run,
        details,
        names,
        stations(run, course),
        folded(sorted(run.tables, key=_urgency), lambda t: _urgency(t) < URGENT),
        folded(sorted(compared, key=lambda t: t.equal), lambda t: not t.equal),
        gantt(course, on, names) if course is not None and on is not None and course.tables else None,
        curves(course, on) if course is not None and on is not None else Curves((), ()),
        tuple(pause_bar(p) for p in (course.last_rehearsal, course.last_pause) if p is not None) if course else (),
        _heartbeat(run.runner),
    )


#: Tables with a failed chunk come first, then those in progress, then planned ones, then finished ones.
_ORDER = {**dict.fromkeys(TablePhase, 1), TablePhase.PLANNED: 2, TablePhase.FINISHED: 3}
URGENT = 2


def _urgency(table: TableReport) -> int:
    return 0 if table.failed_chunks else _ORDER[table.phase]
