"""The names of the databases of a command, as the operator gave them, and its hooks. The module does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from confiture.naming import Naming, naming

if TYPE_CHECKING:
    from confiture.runner.hooks import Hook  # not in a command that has none


@dataclass(frozen=True)
class Endpoints:
    """The databases of a command, as the operator named them.

    :ivar source: None after setup: the journal has recorded the source.
    :ivar project: the folder that contains ``db/``.
    :ivar given_project: ``--project`` as it was given; None when the project was searched for.
    :ivar hooks: commands to run at events.
    """

    target: str
    source: str | None = None
    project: Path = field(default_factory=Path.cwd)
    given_project: Path | None = None
    hooks: tuple[Hook, ...] = ()

    @property
    def naming(self) -> Naming:
        """How a printed command names the target."""
        return naming(self.target, self.given_project)


def next_command(step: str, where: Endpoints) -> str:
    """The command line of a step, its options included, for the databases as the operator named them."""
    return where.naming.command(step)
