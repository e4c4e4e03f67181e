"""The statements of SQL files: how one of them runs, with its place in the file in every error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from confiture import ddl
from confiture.config import redact
from confiture.ddl import Statement
from confiture.errors import ConfitureError, DataFailure, Refused
from confiture.postgres.failure import failure, name_role, relies_on_search_path

#: Settings that the files require: they are UTF-8, and the splitter reads plain strings without escapes.
_SETTINGS = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}

_DISK_FULL = "53100"
#: The extension is not available; before PostgreSQL 16, its control file does not exist.
_NOT_OFFERED = ("0A000", "58P01")
#: The text after the literal is hidden too, because the literal may be quoted in several ways.
_PASSWORD = re.compile(r"(password[^'$]*)['$].*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Surrounding:
    """The work that a statement is part of, for its errors.

    :ivar doing: the activity, as in ``missing privilege while {doing}``.
    :ivar transaction: its transaction; empty where a statement has none around it.
    :ivar fix: what the operator does after an error of which nothing more is known.
    :ivar fixes: what the operator does after an error with this SQLSTATE.
    """

    doing: str
    transaction: str
    fix: str
    fixes: Mapping[str, str] = field(default_factory=dict)


def execute(cursor: psycopg.Cursor[Any], path: Path, statement: Statement, within: Surrounding) -> None:
    """Execute a statement of a file.

    :raises DataFailure: it failed; with its position, its text and the message of the server. A missing privilege, a
        lock timeout or a lost connection raises the class that ``postgres.failure`` has for it. Also when it ended the
        transaction around it, or changed a setting that the next statements require.
    """
    try:
        # Without parameters, psycopg does not interpret a %.
        cursor.execute(statement.text.encode(), prepare=False)
    except psycopg.Error as error:
        name_role(error, cursor.connection.info.user)
        raise _failed(path, statement, error, within) from error
    _check_session(cursor.connection, path, statement, within)


def execute_together(
    connection: psycopg.Connection[Any], statements: Sequence[tuple[Path, Statement]], within: Surrounding
) -> None:
    """Execute statements of a transaction one after the other, and wait for their results together.

    The server executes each one as if it had been sent alone, and none behind one that fails. No statement may change a
    setting that the next ones require, except through a function that it calls: then the error names the last one.

    :raises DataFailure: as :func:`execute`, for the first statement that failed.
    """
    cursors: list[psycopg.Cursor[Any]] = []
    failed: psycopg.Error | None = None
    try:
        with connection.pipeline() as pipeline:
            try:
                for _, statement in statements:
                    cursors.append(connection.cursor())
                    cursors[-1].execute(statement.text.encode(), prepare=False)
                pipeline.sync()
            except psycopg.Error as error:
                # The end of the block meets the statements behind this one, which were not executed.
                failed = error
    except psycopg.Error as error:
        failed = failed or error
    if failed is not None:
        done = next((n for n, cursor in enumerate(cursors) if cursor.statusmessage is None), len(cursors) - 1)
        name_role(failed, connection.info.user)
        raise _failed(*statements[done], failed, within) from failed
    _check_session(connection, *statements[-1], within)


def _check_session(connection: psycopg.Connection[Any], path: Path, statement: Statement, within: Surrounding) -> None:
    """Check the transaction and the settings that the next statements require, without a query."""
    where = f"{path}:{statement.line}:{statement.column}"
    if within.transaction and connection.info.transaction_status is not TransactionStatus.INTRANS:
        raise DataFailure(
            f"{where}: the statement ended {within.transaction}",
            why=f"in: {shown(statement)}",
            fix="remove it: the statements before it are already committed or rolled back",
        )
    for name, value in _SETTINGS.items():
        now = (connection.info.parameter_status(name) or "").upper()
        if now != value.upper():
            raise DataFailure(
                f"{where}: {name} must remain {value}, but was set to {now}",
                why=f"in: {shown(statement)}",
                fix=f"convert the file to {name} = {value} and remove the setting",
            )


def _failed(path: Path, statement: Statement, error: psycopg.Error, within: Surrounding) -> ConfitureError:
    line, column = statement.place(int(error.diag.statement_position or 1))
    known = failure(error, within.doing, _needed(statement))
    kind, what, fix = type(known), known.what, known.fix
    extension = _extension_fix(statement, error)
    if extension is not None:
        kind, what, fix = Refused, *extension
    elif type(known) is DataFailure and error.sqlstate != _DISK_FULL:
        what = "the server rejects a statement"
        if relies_on_search_path(error) is None:
            fix = within.fixes.get(error.sqlstate or "") or redact(error.diag.message_hint or "") or within.fix
    return kind(
        f"{path}:{line}:{column}: {what}",
        why=f"{' '.join(known.why.split())}, in the statement of line {statement.line}: {shown(statement)}",
        fix=fix,
        detail=known.detail,
    )


def _needed(statement: Statement) -> Mapping[str, str]:
    """The privileges that a statement needs, by the kinds of objects that the server's messages name."""
    first = ddl.first_words(statement, 1)
    if first in ("create", "alter"):
        return {"schema": "USAGE, CREATE", **({"table": "REFERENCES"} if _refers(statement) else {})}
    written = _WRITTEN.get(first)
    reads = any(token.word == "select" for token in ddl.tokens(statement.text))
    # In INSERT ... SELECT, the message may name a table that is only read.
    return {"table": written, "sequence": "USAGE"} if written is not None and not reads else {"sequence": "USAGE"}


#: The privileges on a table for the statements that write to it.
_WRITTEN = {"insert": "INSERT", "update": "SELECT, UPDATE", "delete": "SELECT, DELETE", "truncate": "TRUNCATE"}


def _refers(statement: Statement) -> bool:
    return any(token.word == "references" for token in ddl.tokens(statement.text))


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


def shown(statement: Statement) -> str:
    """A statement for a message: on one line, truncated, without a password."""
    return redact(_PASSWORD.sub(r"\1'***' …", statement.shown))
