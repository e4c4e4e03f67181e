"""The events of a run that are announced, and the message of each. The module does no I/O.

A message is built from the kind of an event and from counts. It contains no value of a row and no text of an error,
which may contain one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from confiture.types import Json, counted


@dataclass(frozen=True, slots=True)
class Announced:
    """One of the names that ``events:`` and ``--hook`` know.

    :ivar kinds: of the journal's events that it stands for.
    :ivar text: of the message.
    """

    kinds: tuple[str, ...]
    text: str


#: Every announced event, in the order of the documentation. A further one is a line here, and a kind of event that is
#: written in the transaction of the work itself.
EVENTS: Mapping[str, Announced] = {
    "started": Announced(("created",), "the run has begun"),
    "blocked": Announced(("blocked",), "the run is blocked; `confiture status` names the reason and the next command"),
    "throttled": Announced(("throttled",), "a limit slows the copy down"),
    "resumed": Announced(("takeover", "resume", "throttle ended"), "the run continues"),
    "ready": Announced(("copied",), "every row is copied, and the run can be verified"),
    "verified": Announced(("verify",), "source and target agree"),
    "differences": Announced(("differences",), "source and target differ"),
    "reads": Announced(("reads open",), "the application's reads go to the target"),
    "cutover": Announced(("cutover",), "the target is serving"),
    "halfway": Announced(  # wording: the name of the event
        ("unfinished",), "a switch is not finished; run the same command again immediately"
    ),
    "reads-back": Announced(("reads closed",), "reads go to the source again"),
    "rolled-back": Announced(("rollback",), "the source is serving again"),
    "cleaned": Announced(("clean",), "what the run created is dropped"),
    "completed": Announced(("complete",), "the run has completed"),
    "aborted": Announced(("abort",), "the run is aborted"),
    "failed": Announced(("failed",), "a command failed; `confiture status` names the error"),
    "forecast": Announced(("forecast",), "the target's disk will be full before the end of the copy"),
}

_NAME_OF_KIND = {kind: name for name, announced in EVENTS.items() for kind in announced.kinds}


@dataclass(frozen=True, slots=True)
class Notice:
    """The announcement of an event of a run.

    :ivar key: the same in each attempt to deliver it, and unlike that of any other event.
    :ivar run: the short name of the run.
    :ivar source: the name of the source, without secrets, as ``target``.
    """

    event: str
    run: str
    source: str
    target: str
    at: datetime
    text: str
    key: str

    def as_json(self) -> dict[str, str]:
        """The body of a webhook; ``text`` is what chat programs show."""
        return {
            "text": self.text,
            "event": self.event,
            "run": self.run,
            "source": self.source,
            "target": self.target,
            "at": self.at.isoformat(),
        }


def kinds_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of the journal's events that the names stand for."""
    return tuple(kind for name in names for kind in EVENTS[name].kinds)


def notice_of(number: int, kind: str, detail: Json, at: datetime, *, run: str, source: str, target: str) -> Notice:
    """The notice of an event of the journal, by its number there. Of its detail, only a count is used."""
    name = _NAME_OF_KIND[kind]
    found = detail.get("count")
    count = f": {counted(found, 'difference')}" if name == "differences" and isinstance(found, int) and found else ""
    text = f"confiture: {source} -> {target}, run {run}: {EVENTS[name].text}{count}"
    return Notice(name, run, source, target, at, text, f"{run}-{number}")
