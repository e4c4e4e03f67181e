"""The states of a run and the edges between them: the one table from which all other forms are generated.

The journal's ``state_edge`` rows, the state machine and the diagram in the docs are all
generated from ``EDGES``. States are compared by name, never by order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

#: How a run changes its target: it moves a database into another schema, copies masked rows, or migrates in place.
Medium = Literal["schema-to-schema", "sync", "migrations"]
SCHEMA_TO_SCHEMA: Final = "schema-to-schema"
SYNC: Final = "sync"
MIGRATIONS: Final = "migrations"
MEDIA: Final[tuple[Medium, ...]] = (SCHEMA_TO_SCHEMA, SYNC, MIGRATIONS)

State = Literal["setup", "migrating", "verified", "cutover", "cleaned", "aborted"]
SETUP: Final = "setup"
MIGRATING: Final = "migrating"
VERIFIED: Final = "verified"
CUTOVER: Final = "cutover"
CLEANED: Final = "cleaned"
ABORTED: Final = "aborted"

#: Every state, in the order in which a run without a rollback reaches them.
STATES: Final[tuple[State, ...]] = (SETUP, MIGRATING, VERIFIED, CUTOVER, CLEANED, ABORTED)

#: States in which a run is over, so that a new run may start on the target.
FINAL = (CLEANED, ABORTED)

#: The database that serves writes; ``unknown`` if the recorded phase does not show which one does.
Served = Literal["source", "target", "unknown"]
UNKNOWN: Final = "unknown"


_ROLLBACK = "rollback "


#: The command that opens the closed side again, where the other side has lost changes and cannot be opened.
REOPENED_BY: Final = {"cutover": "abort", "rollback": "cutover"}


class CutoverPhase(StrEnum):
    """The recorded phase of a cutover or of a rollback, in the order in which each reaches them."""

    PREPARING = "preparing"
    PAUSING = "pausing"
    CLOSING = "closing"
    OPENED = "opened"
    RESUMED = "resumed"
    DONE = "done"
    ROLLBACK_PREPARING = _ROLLBACK + "preparing"
    ROLLBACK_PAUSING = _ROLLBACK + "pausing"
    ROLLBACK_CLOSING = _ROLLBACK + "closing"
    ROLLBACK_OPENED = _ROLLBACK + "opened"
    ROLLBACK_RESUMED = _ROLLBACK + "resumed"

    @property
    def of_rollback(self) -> bool:
        """Whether it is a phase of a rollback."""
        return self.startswith(_ROLLBACK)

    @property
    def unqualified(self) -> str:
        """The phase without the word ``rollback``."""
        return self.removeprefix(_ROLLBACK)


class ReadsPhase(StrEnum):
    """Where the application's reads are redirected before the cutover; no phase while they stay on the source."""

    #: They are being redirected to the target: some may be there.
    OPENING = "opening"
    #: They go to the target.
    OPEN = "open"
    #: They are being redirected back to the source: some may still go to the target.
    CLOSING = "closing"


#: The phases in which the readers may be on either side.
MOVING_READS = (ReadsPhase.OPENING, ReadsPhase.CLOSING)


#: The phases in which one database may be closed while the other is not open yet. Such a phase is recorded before the
#: commit that closes the database.
CLOSING = (CutoverPhase.CLOSING, CutoverPhase.ROLLBACK_CLOSING)


def writes_served_by(
    state: str, phase: CutoverPhase | None, *, captured: bool, target_closed: bool | None = None
) -> Served:
    """``source``, ``target`` or ``unknown``: the database that serves the application's writes, by the journal.

    :param phase: the recorded phase of the cutover or rollback; None if there is none.
    :param captured: whether the run captures changes, so that writes continue during it.
    :param target_closed: whether the target rejects writes; None if that is not known.
    """
    if captured and phase in CLOSING and state not in FINAL:
        return "target" if target_closed is False else UNKNOWN
    if state == CUTOVER:
        return "source" if phase in (CutoverPhase.ROLLBACK_OPENED, CutoverPhase.ROLLBACK_RESUMED) else "target"
    return "target" if state == CLEANED else "source"


def reads_served_by(writes: Served, state: str, phase: ReadsPhase | None) -> Served:
    """``source``, ``target`` or ``unknown``: the database that the application's reads are redirected to.

    :param writes: the database that serves its writes. Without a phase, the reads are there too.
    :param phase: the phase of the reads. After a cutover it has a meaning again only when a rollback has ended.
    """
    if phase is None or state in (CUTOVER, *FINAL):
        return writes
    return UNKNOWN if phase in MOVING_READS else "target"


@dataclass(frozen=True, slots=True)
class Edge:
    """A legal transition, with the trigger that fires it, the reason for it, and the media of the runs that have it."""

    trigger: str
    source: str
    target: str
    why: str
    media: tuple[Medium, ...] = (SCHEMA_TO_SCHEMA,)


EDGES = (
    Edge("begin", SETUP, MIGRATING, "the plan is stored and rows may be read", MEDIA),
    Edge("verify", MIGRATING, VERIFIED, "every row was compared and is equal", (SCHEMA_TO_SCHEMA, SYNC)),
    Edge("reopen", VERIFIED, MIGRATING, "a difference, a repair or DDL on the source", (SCHEMA_TO_SCHEMA, SYNC)),
    Edge("cutover", VERIFIED, CUTOVER, "the target serves writes"),
    Edge("rollback", CUTOVER, MIGRATING, "the source serves writes again"),
    Edge("clean", CUTOVER, CLEANED, "the objects that the run created are dropped"),
    Edge("complete", VERIFIED, CLEANED, "a sync is over: it has no cutover", (SYNC,)),
    Edge("complete", MIGRATING, CLEANED, "every migration that was asked for is applied", (MIGRATIONS,)),
    Edge("abort", SETUP, ABORTED, "the run is cancelled before a cutover", MEDIA),
    Edge("abort", MIGRATING, ABORTED, "the run is cancelled before a cutover", MEDIA),
    Edge("abort", VERIFIED, ABORTED, "the run is cancelled before a cutover", (SCHEMA_TO_SCHEMA, SYNC)),
)
