"""How the operator named the target. A printed command names it in the same way, so that it can be pasted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from confiture import config
from confiture.types import shell_word

#: The commands of the group ``migrate`` itself that have a target.
_OF_MIGRATE = ("baseline", "down", "status", "up")


@dataclass(frozen=True, slots=True)
class Naming:
    """The values of ``--target`` and ``--project`` in a printed command.

    :ivar target: as it was given, without its secrets.
    :ivar project: as it was given; None when the option was not given.
    :ivar left_out: whether ``target`` contained a secret, which is left out here.
    """

    target: str
    project: Path | None = None
    left_out: bool = False

    def command(self, step: str) -> str:
        """The command line of a step, quoted for a shell.

        :param step: the name of the step, ``approve``, ``grants``, ``status`` or ``sync``, and its options if any; or
            of a command of the group ``migrate``, such as ``migrate up``.
        """
        project = f" --project {shell_word(str(self.project))}" if self.project is not None else ""
        name, _, options = step.partition(" ")
        of_migrate, _, behind = options.partition(" ")
        if name == "migrate" and of_migrate in _OF_MIGRATE:
            name, options = f"migrate {of_migrate}", behind
        more = f" {options}" if options else ""
        if name == "sync":
            return f"confiture sync --to {shell_word(self.target)}{project}{more}"
        top = name in ("approve", "grants", "status") or " " in name
        group = "" if top else "migrate schema-to-schema "
        return f"confiture {group}{name} --target {shell_word(self.target)}{project}{more}"


def naming(target: str, project: Path | None) -> Naming:
    """The naming of a target: an environment by its name, a URI or conninfo as given without its secrets."""
    public = config.public_form(target)
    return Naming(target if public is None else public, project, left_out=public is not None)
