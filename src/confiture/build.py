"""Medium 1, build from DDL: the files under ``db/schema`` in order, as one text or into a database.

The files are sorted bytewise by the components of their path relative to the schema directory, so
``10_tables/20_user.sql`` comes after ``10_tables/10_type.sql`` and before ``20_views/…``. Numbers are compared as
text: write ``09_`` before ``10_``. Names that start with a dot are ignored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from confiture import ddl, execution, sql_file
from confiture.ddl import Statement
from confiture.errors import Fault, FaultyInput, UsageError
from confiture.types import counted

#: The build's transaction, for the errors of its statements.
_ONE_TRANSACTION = execution.Surrounding(
    "building from DDL",
    "the build's transaction",
    "correct the file and run the same command again: the build is one transaction and was rolled back",
)
#: The kinds of statements: those that change no setting of the session and return no rows are sent without waiting.
_TOGETHER, _ALONE, _ROLE = "together", "alone", "role"
#: Statements that are sent before the results of the first are awaited.
_GROUP = 100


@dataclass(frozen=True)
class DdlFile:
    """A DDL file.

    :param path: its path, as errors show it.
    :param relative: its POSIX path relative to the schema directory.
    :param text: its contents with the original line ends, without a byte order mark.
    """

    path: Path
    relative: str
    text: str


def collect(schema_dir: Path, include: Sequence[str], exclude: Sequence[str]) -> tuple[DdlFile, ...]:
    """Read the ``*.sql`` files under ``schema_dir``, at any depth, in the order in which they are executed.

    :param include: glob patterns of POSIX paths relative to ``schema_dir``, such as ``10_tables/*``. ``*`` matches
        ``/`` too, and the name of a directory includes all its files. Empty means all files.
    :param exclude: glob patterns of files that are left out; it takes precedence over ``include``.
    :raises UsageError: the directory does not exist, no file is selected, or a file cannot be read as UTF-8.
    """
    if not schema_dir.is_dir():
        raise UsageError(
            "There is no DDL to build from",
            why=f"{schema_dir} is not a directory",
            fix="create db/schema/NN_area/*.sql, or set schema_dir: in the environment",
        )
    found = sorted(_sql_files(schema_dir), key=lambda path: _order(path.relative_to(schema_dir)))
    chosen = [path for path in found if _chosen(_relative(path, schema_dir), include, exclude)]
    if not chosen:
        raise UsageError(
            "There is no DDL to build from",
            why=f"{schema_dir}: {len(found)} *.sql files, none selected by include and exclude",
            fix="add files, or change include: and exclude: in the environment",
        )
    return tuple(DdlFile(path, _relative(path, schema_dir), sql_file.read(path)) for path in chosen)


def _sql_files(schema_dir: Path) -> Iterator[Path]:
    # os.walk instead of rglob: rglob silently skips a directory that it cannot read.
    for folder, folders, names in os.walk(schema_dir, onerror=_unreadable_folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        _refuse_loops(Path(folder), folders)
        for name in names:
            if name.lower().endswith(".sql") and not name.startswith("."):
                yield _with_small_ending(Path(folder, name))


def _with_small_ending(path: Path) -> Path:
    if path.suffix == ".sql":
        return path
    raise sql_file.unreadable(str(path), "its name ends with .sql in capital letters; rename it")


def _refuse_loops(folder: Path, names: Sequence[str]) -> None:
    for link in (Path(folder, name) for name in names if Path(folder, name).is_symlink()):
        if folder.resolve().is_relative_to(link.resolve()):
            raise sql_file.unreadable(str(link), "it is a symbolic link to a directory that contains it")


def _unreadable_folder(error: OSError) -> None:
    raise sql_file.unreadable(str(error.filename), error.strerror or "") from error


def _order(relative: Path) -> tuple[bytes, ...]:
    return tuple(os.fsencode(part) for part in relative.parts)


def _relative(path: Path, schema_dir: Path) -> str:
    relative = path.relative_to(schema_dir).as_posix()
    # A newline in a name would end the comment with the name, and execute the rest as SQL.
    if not relative.isprintable():
        raise UsageError(
            f"A file's name cannot be used: {relative!r}",
            why="it contains control characters or is not UTF-8",
            fix="rename the file",
        )
    return relative


def _chosen(relative: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    if any(_matches(relative, pattern) for pattern in exclude):
        return False
    return not include or any(_matches(relative, pattern) for pattern in include)


def _matches(relative: str, pattern: str) -> bool:
    return fnmatchcase(relative, pattern) or fnmatchcase(relative, pattern.rstrip("/") + "/*")


def digest(files: Sequence[DdlFile]) -> str:
    """SHA-256 over the relative paths and the contents of the files, in their order, as hexadecimal digits."""
    found = hashlib.sha256()
    for file in files:
        for part in (file.relative.encode(), file.text.encode()):
            # With its length, the end of a part cannot be moved into the next one.
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def header(files: Sequence[DdlFile], statements: int, environment: str | None, version: str) -> str:
    """The comment at the beginning of the one text. It depends on nothing but the arguments.

    :param environment: that selected the files; None if none did.
    :param version: of Confiture.
    """
    chosen = "all files" if environment is None else f"environment {environment}"
    return (
        f"-- DDL of {chosen}, written by confiture {version} build\n"
        f"-- {counted(len(files), 'file')}, {counted(statements, 'statement')}, sha256:{digest(files)}\n\n"
    )


def render(files: Sequence[DdlFile]) -> str:
    """One SQL text of all files, each preceded by a comment with its relative path.

    ``psql --single-transaction`` can run the text, because the checks are those of :func:`apply`.

    :raises FaultyInput: as :func:`apply` does.
    """
    statements(files)
    return "\n".join(f"-- {file.relative}\n{_closed(file.text)}" for file in files)


def _closed(text: str) -> str:
    ended = text if not text or text.endswith("\n") else f"{text}\n"
    return ended if ddl.terminated(text) else f"{ended};\n"


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Set what a build needs and the profile of a session does not have, until the end of the transaction."""
    connection.execute("SET LOCAL row_security = on")
    # Only DDL runs, so the event triggers of the database fire, unlike during a run.
    connection.execute(
        "SELECT set_config('event_triggers', 'on', true) WHERE current_setting('event_triggers', true) = 'off'"
    )


def apply(connection: psycopg.Connection[Any], files: Sequence[DdlFile], *, skip_existing_roles: bool = False) -> int:
    """Execute every statement in the open transaction of the caller, who must roll it back on any error.

    The files may set parameters of the session, such as ``search_path``, so the caller must close the session.

    :param skip_existing_roles: leave out a statement that creates a role which the server already has.
    :returns: the number of executed statements.
    :raises FaultyInput: before any statement is executed, with all faults: text that cannot be split, and statements
        that end a transaction or cannot run in one.
    :raises DataFailure: a statement failed; with its position, its text and the message of the server. A missing
        privilege, a lock timeout or a lost connection raises the class that ``session.failure`` has for it.
    """
    found = statements(files)
    if connection.info.transaction_status is not TransactionStatus.INTRANS and connection.autocommit:
        raise RuntimeError("apply() runs in the caller's transaction, and none is open")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL client_encoding = 'UTF8'; SET LOCAL standard_conforming_strings = on")
        for kind, group in groupby(found, key=lambda one: _kind(one[1])):
            together = [(file.path, statement) for file, statement in group]
            if kind == _TOGETHER:
                for first in range(0, len(together), _GROUP):
                    execution.execute_together(connection, together[first : first + _GROUP], _ONE_TRANSACTION)
                continue
            for path, statement in together:
                if not (skip_existing_roles and kind == _ROLE and _creates_existing_role(cursor, statement)):
                    execution.execute(cursor, path, statement, _ONE_TRANSACTION)
    return len(found)


def _kind(statement: Statement) -> str:
    """How a statement is executed: together with its neighbours, alone, or alone because it may create a role."""
    first, _, second = ddl.first_words(statement, 2).partition(" ")
    if first == "create" and second in ("role", "user", "group"):
        return _ROLE
    return _TOGETHER if first in ("create", "alter", "comment", "grant", "revoke", "insert") else _ALONE


def _creates_existing_role(cursor: psycopg.Cursor[Any], statement: Statement) -> bool:
    named = next(islice(ddl.tokens(statement.text), 2, None), None)
    if named is None or named.word == "mapping":
        return False
    written = statement.text[named.start : named.end]
    name = written[1:-1].replace('""', '"') if written.startswith('"') else named.word
    return cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is not None


def statements(files: Sequence[DdlFile]) -> list[tuple[DdlFile, Statement]]:
    """The statements of all files in the order in which they are executed.

    :raises FaultyInput: as :func:`apply` does.
    """
    every: list[tuple[DdlFile, Statement]] = []
    faults: list[Fault] = []
    for file in files:
        try:
            found = ddl.split(file.text, str(file.path))
        except FaultyInput as error:
            faults += error.faults
            continue
        faults += _refusals(file, found)
        every += [(file, statement) for statement in found]
    if faults:
        raise FaultyInput("The DDL cannot be built in one transaction", faults, fix="correct the files")
    return every


def _refusals(file: DdlFile, statements: Sequence[Statement]) -> Iterator[Fault]:
    for statement in statements:
        refused = ddl.refusal(statement)
        if refused:
            name, fix = refused
            message = f"{name} cannot be part of a build"
            yield Fault(str(file.path), statement.line, statement.column, message, fix)
