"""Commands that exit as monitoring plugins do: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""

from __future__ import annotations

from typing import Any, cast

from confiture.cli import command, exit_codes
from confiture.status.facts import Severity


class Command(command.Command):
    """Usage errors exit as UNKNOWN, because 2 means CRITICAL here."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Parse the command line; give a usage error the exit code of UNKNOWN."""
        try:
            return super().make_context(*arguments, **more)
        except command.UsageFault as error:
            cast(Any, error).exit_code = exit_codes.of_status(Severity.UNKNOWN)
            raise
