"""``migrate generate``: the files of a new migration."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from confiture import commands
from confiture.cli import options, terminal
from confiture.render.documents import SCHEMA_VERSION, GeneratedDocument


def migrate_generate(
    name: Annotated[str, typer.Argument(help="The change in a few words, such as add_email_to_customer.")],
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Write the two files of a new migration.

    Its version is the present time in UTC, and later than that of every other migration. No file is overwritten.
    """
    where = options.where("", None, project)
    written = [os.path.relpath(path) for path in commands.migrations.generate(where.project, name)]
    document: GeneratedDocument = {"schema_version": SCHEMA_VERSION, "files": written}
    terminal.emit_either("\n".join(f"wrote {path}" for path in written), document, format)
