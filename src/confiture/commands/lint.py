"""``migrate lint``: judge migrations, with the catalog of the database that they will change where one is named."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import IsolationLevel

from confiture import config, sql_file
from confiture.commands import migrations
from confiture.commands.driver_errors import translated
from confiture.config import Database
from confiture.errors import DifferencesFound, UsageError
from confiture.incremental import files
from confiture.incremental.model import Direction, Migration
from confiture.incremental.standing import Standing
from confiture.postgres.session import Session
from confiture.types import counted

if TYPE_CHECKING:
    from confiture.lint.facts import Facts
    from confiture.lint.model import Finding, Rule
    from confiture.lint.script import Script

#: The package that the extra ``lint`` requires.
PACKAGE = "postgast>=0.2"
#: The name of a file that ``migrate up`` or ``migrate down`` runs.
_MIGRATION = re.compile(r"(?P<version>\d+)_.+\.(?P<direction>up|down)\.sql")


@dataclass(frozen=True)
class Judged:
    """The outcome.

    :ivar files: that were judged, as they are named in findings.
    :ivar database: as the operator named it; None where none was.
    :ivar statements: the number of statements in the files.
    """

    files: tuple[str, ...]
    findings: tuple[Finding, ...]
    database: str | None
    statements: int


def judge(project: Path, given: Sequence[Path], target: str | None, large: int | None) -> Judged:
    """The findings of files. Nothing is changed.

    :param given: files, or folders of files; empty for the migrations of the project, without those that the ledger
        of the database has as applied.
    :param target: the database whose catalog is read; None for none.
    :param large: bytes of a table from which a rewrite refers to schema-to-schema; None for the default.
    :raises UsageError: when there is no file, a file cannot be read, or the parser is not installed.
    """
    _require_parser()
    from confiture.lint import check, weights  # the parser is an optional dependency

    database = config.resolve(target, project) if target is not None else None
    chosen = list(_given(given)) if given else _of_project(project, database)
    context = list(_before(chosen, project, database))
    scripts = [_script(path) for path in (*context, *chosen)]
    facts = _facts(database, scripts) if database is not None else None
    found = check.findings(scripts, facts, weights.LARGE_TABLE_BYTES if large is None else large)
    names = tuple(script.file for script in scripts[len(context) :])
    return Judged(
        names,
        tuple(finding for finding in found if finding.file in names),
        database.name if database is not None else None,
        sum(len(script.statements) for script in scripts[len(context) :]),
    )


def rules() -> tuple[Rule, ...]:
    """Every rule.

    :raises UsageError: when the parser is not installed.
    """
    _require_parser()
    from confiture.lint.rules import RULES

    return tuple(RULES.values())


def _require_parser() -> None:
    try:
        import postgast  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "the package postgast is not installed",
            why=f"migrate lint parses SQL with it ({error})",
            fix=f"install it beside confiture: pip install '{PACKAGE}', or pipx inject confiture '{PACKAGE}'",
        ) from None


def _given(given: Sequence[Path]) -> Iterator[Path]:
    for path in given:
        if path.is_dir():
            inside = sorted(path.glob("*.sql"))
            if not inside:
                raise UsageError(
                    f"{path} contains no file to judge", why="none ends with .sql", fix="name another folder"
                )
            yield from inside
        else:
            yield path


def _of_project(project: Path, database: Database | None) -> list[Path]:
    """The files that apply migrations in their order, then those that revert them in reverse."""
    folder = project / files.FOLDER
    found: Sequence[Migration] = files.read(folder)
    if not found:
        fix = "confiture migrate generate NAME writes one; or name the files to judge"
        raise UsageError("there is no migration to judge", why=f"{folder} has none", fix=fix)
    if database is not None:
        found = _not_applied(project, database)
    downs = [migration.down.path for migration in reversed(found) if migration.down is not None]
    return [*(migration.up.path for migration in found), *downs]


def _not_applied(project: Path, database: Database) -> list[Migration]:
    """The migrations that the ledger of the database lacks; every one where there is no ledger."""
    with translated("migrate lint"):
        every = migrations.read(database, project)
    waiting = (Standing.PENDING, Standing.OUT_OF_ORDER, Standing.UNFINISHED)
    return [each.migration for each in every if each.standing in waiting and each.migration is not None]


def _before(chosen: Sequence[Path], project: Path, database: Database | None) -> Iterator[Path]:
    """The files that run before the chosen ones, from which the linter learns of tables, columns and constraints.

    Where a database is named, its catalog has the effects of those that are applied.
    """
    here = {path.resolve() for path in chosen}
    folder = project / files.FOLDER
    if database is not None:
        inside = [path for path in chosen if path.parent.resolve() == folder.resolve()]
        waiting = _not_applied(project, database) if inside else []
        newest = max((int(m["version"]) for p in inside if (m := _MIGRATION.fullmatch(p.name))), default=0)
        yield from (m.up.path for m in waiting if m.version <= newest and m.up.path.resolve() not in here)
        return
    versions = {path.parent: int(found["version"]) for path in chosen if (found := _MIGRATION.fullmatch(path.name))}
    for folder, newest in versions.items():
        for path in sorted(folder.glob("*.up.sql")):
            found = _MIGRATION.fullmatch(path.name)
            # A file that reverts a version is judged behind the one that applies it.
            if found is not None and int(found["version"]) <= newest and path.resolve() not in here:
                yield path


def _script(path: Path) -> Script:
    from confiture.lint import script

    found = _MIGRATION.fullmatch(path.name)
    undoes = None
    if found is not None and found["direction"] == Direction.DOWN:
        up = path.with_name(path.name.removesuffix(".down.sql") + ".up.sql")
        undoes = script.read(str(up), sql_file.read(up)) if up.is_file() else None
    name = os.path.relpath(path)
    return script.read(name, sql_file.read(path), by_confiture=found is not None, undoes=undoes)


def _facts(database: Database, scripts: Sequence[Script]) -> Facts:
    from confiture.lint import facts_reader

    with (
        translated("migrate lint"),
        Session(database, "lint") as session,
        session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx,
    ):
        return facts_reader.read(tx, [script.text for script in scripts], database.search_path)


def errors_found(judged: Judged) -> DifferencesFound | None:
    """The error of the command where a finding is one; None where none is."""
    from confiture.lint.rules import files as faults

    errors = [finding for finding in judged.findings if finding.level == "error"]
    if not errors:
        return None
    of_file = errors[0].rule in (faults.SYNTAX.name, faults.REFUSED.name)
    allowed = (
        f"write the safe sequence instead; to allow it, write above the statement: -- confiture: allow {errors[0].rule}"
    )
    return DifferencesFound(
        f"{counted(len(errors), 'error')}: a statement would block the application, or fail",
        why=f"the first is {errors[0].file}:{errors[0].line}: {errors[0].rule}",
        fix="correct the file: migrate up refuses it" if of_file else allowed,
    )
