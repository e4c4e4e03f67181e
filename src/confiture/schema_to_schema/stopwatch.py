"""The parts of a write pause: those of a rehearsal, and those of a cutover or rollback as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from confiture.schema_to_schema.outcomes import Part

#: The part with which a switch ends, unless a pooler is redirected after it.
COMMIT = "commit on both sides"


@dataclass
class Stopwatch:
    """Measures parts, one after another.

    :ivar began: of the first part, by ``time.monotonic()``; None before :meth:`start`.
    :ivar ended: of the last part.
    """

    began: float | None = None
    ended: float = 0.0
    _seconds: dict[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in the order in which they first ended."""
        return tuple(Part(name, seconds) for name, seconds in self._seconds.items())

    @property
    def last(self) -> str | None:
        """The name of the part that ended last; None before the first."""
        return next(reversed(self._seconds), None)

    def start(self) -> None:
        """Begin the first part; parts that were measured before are discarded."""
        self._seconds.clear()
        self.began = self.ended = time.monotonic()

    def lap(self, name: str) -> None:
        """End a part, which began where the part before ended. A part of the same name is added to it."""
        now = time.monotonic()
        self.add(name, now - self.ended)
        self.ended = now

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a part."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """Measure the block alone as a part, when it succeeds."""
        began = time.monotonic()
        yield
        self.add(name, time.monotonic() - began)
