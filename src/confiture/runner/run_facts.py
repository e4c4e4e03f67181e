"""The facts that every process of a run needs, as values that can be sent to another process."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from confiture.config import Database
from confiture.states import SCHEMA_TO_SCHEMA, Medium


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run and its runner, which do not change while one runner holds the run. They can be pickled.

    A process that works for the runner opens sessions of its own from these values.

    :ivar run_id: the run; its row is read again wherever it matters.
    :ivar epoch: of the runner; every write is fenced by it, whichever process writes.
    :ivar target_name: how commands name the target.
    """

    run_id: uuid.UUID
    epoch: int
    target_name: str
    source: Database
    target: Database
    medium: Medium = SCHEMA_TO_SCHEMA

    @property
    def short(self) -> str:
        """The run's short name."""
        return self.run_id.hex[:8]

    @property
    def schema(self) -> str:
        """The run's own schema, on either side."""
        return f"confiture_{self.short}"

    def database(self, side: str) -> Database:
        """The database of a side of the run: ``source`` or ``target``."""
        return {"source": self.source, "target": self.target}[side]
