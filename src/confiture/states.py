"""The states of a run and the edges between them; the one table everything else is made from.

The journal's ``state_edge`` rows, the state machine and the diagram in the docs are all
generated from ``EDGES``. States are compared by name, never by order.
"""

from __future__ import annotations

from dataclasses import dataclass

SETUP = "setup"
MIGRATING = "migrating"
VERIFIED = "verified"
CUTOVER = "cutover"
CLEANED = "cleaned"
ABORTED = "aborted"

#: Every state, in the order a run that never turns back meets them.
STATES = (SETUP, MIGRATING, VERIFIED, CUTOVER, CLEANED, ABORTED)

#: A run in one of these is over; a new one may start on the target.
FINAL = (CLEANED, ABORTED)

#: Which database the application's writes belong to, where what is recorded cannot tell.
UNKNOWN = "unknown"

#: The phase of a cutover or rollback in which one database is closed and the other not open yet, or nothing is closed
#: yet: it is recorded before the commit that closes. Phases of a rollback begin with ``ROLLBACK``.
CLOSING = "closing"
ROLLBACK = "rollback "


def writes_served_by(state: str, phase: str | None, *, captured: bool, target_closed: bool | None = None) -> str:
    """``source``, ``target`` or ``unknown``: where the application's writes belong, as far as the target knows.

    :param phase: of the cutover or rollback, as recorded.
    :param target_closed: whether the target itself refuses writes; None when that is not known.
    """
    back, name = (phase or "").startswith(ROLLBACK), (phase or "").removeprefix(ROLLBACK)
    if captured and name == CLOSING and state not in FINAL:
        return "target" if target_closed is False else UNKNOWN
    if state == CUTOVER:
        return "source" if back and name in ("opened", "resumed") else "target"
    return "target" if state == CLEANED else "source"


@dataclass(frozen=True, slots=True)
class Edge:
    """A legal transition: the trigger that fires it, and why one would."""

    trigger: str
    source: str
    target: str
    why: str


EDGES = (
    Edge("begin", SETUP, MIGRATING, "the plan is stored and rows may be read"),
    Edge("verify", MIGRATING, VERIFIED, "every row was compared and agrees"),
    Edge("reopen", VERIFIED, MIGRATING, "a difference, a repair or DDL on the source"),
    Edge("cutover", VERIFIED, CUTOVER, "the target serves from here on"),
    Edge("rollback", CUTOVER, MIGRATING, "the source serves again"),
    Edge("clean", CUTOVER, CLEANED, "what the run made is dropped"),
    Edge("abort", SETUP, ABORTED, "given up; nothing had switched"),
    Edge("abort", MIGRATING, ABORTED, "given up; nothing had switched"),
    Edge("abort", VERIFIED, ABORTED, "given up; nothing had switched"),
)
