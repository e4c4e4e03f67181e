"""How the operator named a run's target: a command that is printed names it the same way, so that it can be pasted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from confiture import config
from confiture.types import shell_word


@dataclass(frozen=True, slots=True)
class Naming:
    """What stands behind ``--target``, and behind ``--project`` where that was given.

    :ivar target: as it was given, or without its secrets where it has some.
    :ivar project: as it was given; None when the project was found from the current folder.
    :ivar left_out: whether ``target`` had a secret that is left out here.
    """

    target: str
    project: Path | None = None
    left_out: bool = False

    def command(self, step: str) -> str:
        """The command line of a step, its options included, quoted for a shell."""
        project = f" --project {shell_word(str(self.project))}" if self.project is not None else ""
        name, _, options = step.partition(" ")
        more = f" {options}" if options else ""
        return f"confiture migrate schema-to-schema {name} --target {shell_word(self.target)}{project}{more}"


def naming(target: str, project: Path | None) -> Naming:
    """How to name ``target`` again: an environment by its name, a URI or conninfo as given but for its secrets."""
    public = config.public_form(target)
    return Naming(target if public is None else public, project, left_out=public is not None)
