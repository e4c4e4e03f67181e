"""The states of a run as a rail: those it was in, with time, duration and actor, and those that follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from confiture.states import ABORTED, CUTOVER, FINAL, STATES, State
from confiture.status.course import Course
from confiture.status.facts import RunReport
from confiture.status.media import SyncRunReport

#: States that the run was in and that the rail shows; of more, the last ones.
SHOWN = 8
#: The states of a sync: it has no cutover.
OF_SYNC = tuple(state for state in STATES if state != CUTOVER)


@dataclass(frozen=True, slots=True)
class Station:
    """A state of the rail.

    :ivar begin: None for a state that the run has not reached, like ``actor``.
    :ivar end: None while the run is in it.
    """

    state: State
    begin: datetime | None = None
    end: datetime | None = None
    actor: str | None = None

    @property
    def current(self) -> bool:
        """Whether the run is in the state now."""
        return self.begin is not None and self.end is None


def stations(run: RunReport | SyncRunReport, course: Course | None) -> tuple[Station, ...]:
    """The rail of a run, in the order of time.

    :param course: None where it could not be read.
    """
    states = STATES if isinstance(run, RunReport) else OF_SYNC
    spans = course.states if course is not None else ()
    passed = [Station(s.state, s.begin, s.end, s.actor) for s in spans] or [Station(run.state, run.state_since)]
    following: tuple[State, ...] = () if run.state in FINAL else states[states.index(run.state) + 1 :]
    return (*passed[-SHOWN:], *(Station(state) for state in following if state != ABORTED))
