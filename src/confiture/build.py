"""Medium 1, build from DDL: the files under ``db/schema`` in order, as one text or into a database.

The files are sorted bytewise by the components of their path relative to the schema directory, so
``10_tables/20_user.sql`` comes after ``10_tables/10_type.sql`` and before ``20_views/…``. Numbers are compared as
text: write ``09_`` before ``10_``. Names that start with a dot are ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from confiture import ddl
from confiture.config import redact
from confiture.ddl import Statement
from confiture.errors import ConfitureError, DataFailure, Fault, FaultyInput, Refused, UsageError
from confiture.postgres.failure import failure, name_role, relies_on_search_path

#: Settings that the files require: they are UTF-8, and the splitter reads plain strings without escapes.
_SETTINGS = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}

_DISK_FULL = "53100"
#: The extension is not available; before PostgreSQL 16, its control file does not exist.
_NOT_OFFERED = ("0A000", "58P01")
_ROLLED_BACK = "correct the file and run the same command again: the build is one transaction and was rolled back"
#: The text after the literal is hidden too, because the literal may be quoted in several ways.
_PASSWORD = re.compile(r"(password[^'$]*)['$].*", re.IGNORECASE)


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
    return tuple(DdlFile(path, _relative(path, schema_dir), _read(path)) for path in chosen)


def _sql_files(schema_dir: Path) -> Iterator[Path]:
    # os.walk instead of rglob: rglob silently skips a directory that it cannot read.
    for folder, folders, names in os.walk(schema_dir, onerror=_unreadable_folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        _refuse_loops(Path(folder), folders)
        for name in names:
            if name.endswith(".sql") and not name.startswith("."):
                yield Path(folder, name)


def _refuse_loops(folder: Path, names: Sequence[str]) -> None:
    for link in (Path(folder, name) for name in names if Path(folder, name).is_symlink()):
        if folder.resolve().is_relative_to(link.resolve()):
            raise _unreadable(str(link), "it is a symbolic link to a directory that contains it")


def _unreadable_folder(error: OSError) -> None:
    raise _unreadable(str(error.filename), error.strerror or "") from error


def _unreadable(name: str, why: str) -> UsageError:
    return UsageError(f"{name} cannot be read", why=why, fix="make it readable, or remove it from the DDL")


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


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(str(path), error.strerror or "") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _not_text(path, line, "the line is not UTF-8") from None
    if "\0" in text:
        # libpq truncates a statement at the first zero byte, without an error.
        raise _not_text(path, text[: text.index("\0")].count("\n") + 1, "the line contains a zero byte")
    return text


def _not_text(path: Path, line: int, why: str) -> UsageError:
    return UsageError(f"{path}:{line} cannot be read", why=why, fix="save the file as UTF-8")


def render(files: Sequence[DdlFile]) -> str:
    """One SQL text of all files, each preceded by a comment with its relative path.

    ``psql --single-transaction`` can run the text, because the checks are those of :func:`apply`.

    :raises FaultyInput: as :func:`apply` does.
    """
    _statements(files)
    return "\n".join(f"-- {file.relative}\n{_closed(file.text)}" for file in files)


def _closed(text: str) -> str:
    ended = text if not text or text.endswith("\n") else f"{text}\n"
    return ended if ddl.terminated(text) else f"{ended};\n"


def apply(connection: psycopg.Connection[Any], files: Sequence[DdlFile]) -> int:
    """Execute every statement in the open transaction of the caller, who must roll it back on any error.

    The files may set parameters of the session, such as ``search_path``, so the caller must close the session.

    :returns: the number of executed statements.
    :raises FaultyInput: before any statement is executed, with all faults: text that cannot be split, and statements
        that end a transaction or cannot run in one.
    :raises DataFailure: a statement failed; with its position, its text and the message of the server. A missing
        privilege, a lock timeout or a lost connection raises the class that ``session.failure`` has for it.
    """
    statements = _statements(files)
    if connection.info.transaction_status is not TransactionStatus.INTRANS and connection.autocommit:
        raise RuntimeError("apply() runs in the caller's transaction, and none is open")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL client_encoding = 'UTF8'; SET LOCAL standard_conforming_strings = on")
        for file, statement in statements:
            _run(cursor, file, statement)
    return len(statements)


def _statements(files: Sequence[DdlFile]) -> list[tuple[DdlFile, Statement]]:
    statements: list[tuple[DdlFile, Statement]] = []
    faults: list[Fault] = []
    for file in files:
        try:
            found = ddl.split(file.text, str(file.path))
        except FaultyInput as error:
            faults += error.faults
            continue
        faults += _refusals(file, found)
        statements += [(file, statement) for statement in found]
    if faults:
        raise FaultyInput("The DDL cannot be built in one transaction", faults, fix="correct the files")
    return statements


def _refusals(file: DdlFile, statements: Sequence[Statement]) -> Iterator[Fault]:
    for statement in statements:
        refused = ddl.refusal(statement)
        if refused:
            name, fix = refused
            message = f"{name} cannot be part of a build"
            yield Fault(str(file.path), statement.line, statement.column, message, fix)


def _run(cursor: psycopg.Cursor[Any], file: DdlFile, statement: Statement) -> None:
    try:
        # Without parameters, psycopg does not interpret a %.
        cursor.execute(statement.text.encode(), prepare=False)
    except psycopg.Error as error:
        name_role(error, cursor.connection.info.user)
        raise _failure(file, statement, error) from error
    _check_session(cursor.connection, file, statement)


def _check_session(connection: psycopg.Connection[Any], file: DdlFile, statement: Statement) -> None:
    """Check the transaction and the settings that the next statements require, without a query."""
    where = f"{file.path}:{statement.line}:{statement.column}"
    if connection.info.transaction_status is not TransactionStatus.INTRANS:
        raise DataFailure(
            f"{where}: the statement ended the build's transaction",
            why=f"in: {_shown(statement)}",
            fix="remove it: the statements before it are already committed or rolled back",
        )
    for name, value in _SETTINGS.items():
        now = (connection.info.parameter_status(name) or "").upper()
        if now != value.upper():
            raise DataFailure(
                f"{where}: {name} must remain {value}, but was set to {now}",
                why=f"in: {_shown(statement)}",
                fix=f"convert the file to {name} = {value} and remove the setting",
            )


def _failure(file: DdlFile, statement: Statement, error: psycopg.Error) -> ConfitureError:
    line, column = statement.place(int(error.diag.statement_position or 1))
    known = failure(error, "building from DDL")
    kind, what, fix = type(known), known.what, known.fix
    extension = _extension_fix(statement, error)
    if extension is not None:
        kind, what, fix = Refused, *extension
    elif type(known) is DataFailure and error.sqlstate != _DISK_FULL:
        what = "the server rejects a statement"
        if relies_on_search_path(error) is None:
            fix = redact(error.diag.message_hint or "") or _ROLLED_BACK
    return kind(
        f"{file.path}:{line}:{column}: {what}",
        why=f"{' '.join(known.why.split())}, in the statement of line {statement.line}: {_shown(statement)}",
        fix=fix,
        detail=known.detail,
    )


def _extension_fix(statement: Statement, error: psycopg.Error) -> tuple[str, str] | None:
    """The fault of a CREATE EXTENSION and how to proceed; None for another statement or error."""
    words = [token.word for token in islice(ddl.tokens(statement.text), 2)]
    if words != ["create", "extension"]:
        return None
    if error.sqlstate in _NOT_OFFERED:
        return (
            "the server does not offer the extension",
            "install its package on the machine of the target's server, or remove the statement and what needs it",
        )
    if error.sqlstate == "22023":
        return (
            "the server does not offer this version of the extension",
            "remove VERSION; pg_available_extension_versions lists the versions that the server offers",
        )
    if error.sqlstate == "42501":
        return (
            "the role may not create the extension",
            "create the target database and run this statement in it as a superuser; then write"
            " CREATE EXTENSION IF NOT EXISTS here",
        )
    return None


def _shown(statement: Statement) -> str:
    return redact(_PASSWORD.sub(r"\1'***' …", statement.shown))
