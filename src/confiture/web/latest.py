"""The newest facts for all readers of a server: read at most once in two seconds, whatever the number of readers.

The target is asked in a thread. A target that does not answer delays no reader for longer than a moment: the reader
gets the facts that were read last, marked as stale.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Thread

import psycopg

from confiture.errors import ConfitureError
from confiture.status.details import PageFacts
from confiture.status.facts import Report
from confiture.status.report import unknown
from confiture.web import page

#: Seconds for which facts are given to every reader.
FRESH_SECONDS = 2.0
#: Seconds that a reader waits for the target; for the first facts, longer than a connection may take.
PATIENCE_SECONDS, FIRST_PATIENCE_SECONDS = 3.0, 15.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The facts of one moment.

    :ivar report: of that moment: UNKNOWN when the target could not be read.
    :ivar html: the page, which shows the last facts that could be read.
    :ivar taken: by the monotonic clock.
    """

    report: Report
    shown: PageFacts
    html: bytes
    taken: float


class Latest:
    """The newest snapshot, and the thread that reads the next one."""

    def __init__(self, read: Callable[[], PageFacts]) -> None:
        self._read = read
        self._last: Snapshot | None = None
        self._reading: Future[Snapshot] | None = None

    async def get(self) -> Snapshot:
        """A snapshot that is fresh, or the last one marked as stale."""
        self._collect()
        if self._last is not None and time.monotonic() - self._last.taken < FRESH_SECONDS:
            return self._last
        if self._reading is None:
            self._reading = self._started()
        reading = self._reading
        patience = FIRST_PATIENCE_SECONDS if self._last is None else PATIENCE_SECONDS
        await asyncio.wait([asyncio.wrap_future(reading)], timeout=patience)
        if reading.done():
            self._collect()
            return reading.result()
        self._last = _without_answer(self._last)
        return self._last

    def _collect(self) -> None:
        """Keep the facts of a thread that has ended."""
        if self._reading is not None and self._reading.done():
            reading, self._reading = self._reading, None
            if reading.exception() is None:
                self._last = reading.result()

    def _started(self) -> Future[Snapshot]:
        future: Future[Snapshot] = Future()
        last = self._last

        def work() -> None:
            try:
                future.set_result(_taken(self._read, last))
            except Exception as error:  # noqa: BLE001 - a defect is raised again by the reader that waits for it
                future.set_exception(error)

        # A daemon: the server ends without waiting for the target.
        Thread(target=work, name="reads the target", daemon=True).start()
        return future


def _taken(read: Callable[[], PageFacts], last: Snapshot | None) -> Snapshot:
    try:
        facts = read()
    except ConfitureError as error:
        facts = PageFacts(unknown(error), {})
    except (psycopg.Error, OSError) as error:
        facts = PageFacts(Report(datetime.now().astimezone(), (), (f"the target cannot be read: {error}",)), {})
    lost = facts.report.unknown and not facts.report.parts
    if lost and last is not None and last.shown.report.parts:
        return _stale(facts.report, last)
    return Snapshot(facts.report, facts, page.html(facts, live=True).encode(), time.monotonic())


def _stale(report: Report, last: Snapshot) -> Snapshot:
    html = last.html
    if report.unknown != last.report.unknown:
        html = page.html(last.shown, live=True, lost=report.unknown[0]).encode()
    return replace(last, report=report, html=html, taken=time.monotonic())


#: A reader whose target does not answer.
_NO_ANSWER = "the target does not answer"


def _without_answer(last: Snapshot | None) -> Snapshot:
    """The last facts, marked as stale, for a moment."""
    report = Report(datetime.now().astimezone(), (), (_NO_ANSWER,))
    if last is not None and last.shown.report.parts:
        return _stale(report, last)
    facts = PageFacts(report, {})
    return Snapshot(report, facts, page.html(facts, live=True).encode(), time.monotonic())
