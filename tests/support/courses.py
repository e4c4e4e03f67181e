"""The course of a run with everything that a page draws, for tests of the page without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from confiture.journal.model import TablePhase
from confiture.schema_to_schema.outcomes import Part
from confiture.status.course import (
    Bar,
    Course,
    Eta,
    Hindrance,
    Mark,
    Sample,
    StateSpan,
    Stretch,
    TableBars,
    Tick,
    Work,
    WritePause,
)

BEGAN = datetime(2026, 1, 1, 8, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=4)
ACTOR = "ops@host[4121]"
PHASES = (TablePhase.FINISHED, TablePhase.FINISHED, TablePhase.INDEXING, TablePhase.COPYING, TablePhase.PLANNED)


def at(minutes: float) -> datetime:
    """A moment of the run."""
    return BEGAN + timedelta(minutes=minutes)


def table(number: int, name: str, phase: TablePhase, minute: float) -> TableBars:
    """A table in a phase, whose copy began at a minute."""
    copied = phase not in (TablePhase.COPYING, TablePhase.PLANNED)
    bars: list[Bar] = []
    if phase is not TablePhase.PLANNED:
        bars.append(Bar(Work.COPY, "", at(minute), at(minute + 30) if copied else None, None if copied else 0.4))
    if copied:
        end = at(minute + 50) if phase is TablePhase.FINISHED else None
        bars += [Bar(Work.INDEX, f"ix_{number}_{n}", at(minute + 30 + 2 * n), end) for n in range(3)]
    if phase is TablePhase.FINISHED:
        bars.append(Bar(Work.VERIFICATION, "", at(minute + 60), at(minute + 75), None, differs=number % 7 == 3))
    rows = 10_000_000 - number if copied else 4_000_000 if bars else 0
    return TableBars(number, name, name, phase, rows, 10_000_000 - number, not copied, int(number == 4), tuple(bars))


def sample(n: int) -> Sample:
    """The sample of the nth of 240 minutes."""
    rate = None if 70 <= n < 90 else 5_000.0 + 40 * (n % 50)
    throttled = "replica lag 14 s > 10 s" if 120 <= n < 150 else None
    return Sample(at(n), 300_000 * n, rate, 900 * (n % 60), n % 60 * 0.5, n % 9 * 1.0, throttled, "migrating")


def rehearsed(seconds: float, limit: float | None = 5.0) -> WritePause:
    """A rehearsal of the cutover."""
    shares = {"lock": 0.1, "last pass": 0.4, "sequences": 0.05, "fingerprint": 0.25, "opening": 0.2}
    parts = tuple(Part(name, seconds * share) for name, share in shares.items())
    return WritePause(at(230), ACTOR, "cutover", True, parts, seconds, limit, True)


def course(names: list[str]) -> Course:
    """A course with these tables, kills, throttling, a pause and samples."""
    apart = 100 / max(1, len(names))
    return Course(
        NOW,
        BEGAN,
        tuple(table(n, name, PHASES[n % len(PHASES)], 5 + apart * n) for n, name in enumerate(names, 1)),
        (StateSpan("setup", BEGAN, at(4), ACTOR), StateSpan("migrating", at(4), None, ACTOR)),
        (
            Stretch(Hindrance.PAUSED, at(40), at(55), "by ops"),
            Stretch(Hindrance.KILLED, at(70), at(90), "no heartbeat"),
            Stretch(Hindrance.THROTTLED, at(120), at(150), "replica lag 14 s > 10 s"),
            Stretch(Hindrance.BLOCKED, at(160), at(170), "missing privilege"),
            Stretch(Hindrance.FAILED, at(180), at(185), "a row does not fit"),
        ),
        (
            Tick(Mark.STARTED, at(4), ACTOR, "migrate"),
            Tick(Mark.KILLED, at(70), ACTOR, "migrate"),
            Tick(Mark.RESUMED, at(90), "ops@host[4200]", "migrate"),
        ),
        tuple(map(sample, range(240))),
        (rehearsed(1.8),),
        Eta(NOW + timedelta(minutes=70), NOW + timedelta(minutes=50), NOW + timedelta(minutes=120)),
    )
