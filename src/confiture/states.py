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
