"""``migrate baseline``: record migrations that the database already has."""

from __future__ import annotations

from confiture import commands
from confiture.cli import options, progress, terminal
from confiture.render.documents import SCHEMA_VERSION, BaselineDocument
from confiture.types import counted


def migrate_baseline(
    version: options.Version,
    target: options.Target,
    hook: options.Hooks = None,
    project: options.Project = None,
    format: options.Format = options.Output.text,
) -> None:
    """Record migrations as applied without running them.

    Every file up to VERSION is recorded with its checksum as it is now. A migration that has no file any more is
    removed from the ledger.
    """
    where = options.where(target, None, project, hook)
    with progress.Reporter() as reporter:
        recorded, discarded = commands.migrations.baseline(where, version, reporter)
    lines = [f"recorded {each.label}" for each in recorded]
    lines += [f"removed {each.label} from the ledger: it has no file" for each in discarded]
    document: BaselineDocument = {
        "schema_version": SCHEMA_VERSION,
        "recorded": [each.version for each in recorded],
        "discarded": [each.version for each in discarded],
    }
    lines.append(f"{target}: {counted(len(recorded), 'migration')} recorded as applied")
    terminal.emit_either("\n".join(lines), document, format)
