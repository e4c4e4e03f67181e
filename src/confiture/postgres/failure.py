"""Errors of the server, translated into errors of Confiture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import psycopg

from confiture.config import redact
from confiture.errors import CannotConnect, ConfitureError, DataFailure, Held, Refused
from confiture.postgres.retry import retryable
from confiture.types import quoted

#: The privilege to grant for each kind of object that the server's message may name.
_GRANTS = {
    "table": "SELECT",
    "view": "SELECT",
    "sequence": "SELECT",
    "schema": "USAGE",
    "database": "CREATE",
    "foreign-data wrapper": "USAGE",
    "foreign server": "USAGE",
    "function": "EXECUTE",
    "type": "USAGE",
    "large object": "SELECT",
    "tablespace": "CREATE",
}
_DENIED = re.compile(rf"permission denied for ({'|'.join(_GRANTS)}) (.+)")
_NOT_OWNER = re.compile(r"must be owner of (?:table|schema|sequence|view|relation|type|function) (.+)")


#: How an error carries the role of its session, which the server's message does not name.
_ROLE = "role: "
_UNKNOWN_ROLE = "ROLE (the user of the connection)"


def name_role(error: psycopg.Error, role: str) -> None:
    """Have :func:`failure` name the role for which a statement failed."""
    if error.sqlstate == "42501":
        error.add_note(f"{_ROLE}{quoted(role)}")


def _role(error: psycopg.Error) -> str:
    if "remote SQL" in (error.diag.context or ""):  # the foreign server's session has another role
        return _UNKNOWN_ROLE
    notes = [note.removeprefix(_ROLE) for note in getattr(error, "__notes__", ()) if note.startswith(_ROLE)]
    return notes[0] if notes else _UNKNOWN_ROLE


def _grant(message: str, role: str, needed: Mapping[str, str]) -> str:
    """The statement that grants a missing privilege, as far as the server's message and the statement show it."""
    denied, owner = _DENIED.match(message), _NOT_OWNER.match(message)
    if denied:
        kind = denied[1].upper().replace("-", " ")
        privilege = needed.get(denied[1], _GRANTS[denied[1]])
        return f"GRANT {privilege} ON {kind} {denied[2]} TO {role}"
    if owner:
        return f"GRANT the role that owns {owner[1]} TO {role}"
    return f"grant it to {role}; docs/privileges.md lists every GRANT"


#: How the server names the function in which a statement failed, innermost first.
_IN_FUNCTION = re.compile(r'SQL function "([^"]+)"|PL/pgSQL function (\S.*?\)) line \d+')
#: Undefined function, table, type or operator, column, schema.
UNDEFINED = ("42883", "42P01", "42704", "42703", "3F000")


def relies_on_search_path(error: psycopg.Error) -> str | None:
    """The function that fails because it names objects without their schema; None where none is at fault.

    Confiture's sessions, and since PostgreSQL 17 the server while it maintains indexes and views, find in their
    search_path only pg_catalog.
    """
    found = _IN_FUNCTION.search(error.diag.context or "") if error.sqlstate in UNDEFINED else None
    return None if found is None else found[1] or found[2]


def _search_path_failure(function: str, message: str, doing: str, detail: str) -> DataFailure:
    return DataFailure(
        f"function {function} relies on search_path: SQL failed while {doing}",
        why=f"{message}: the function names it without its schema",
        fix=f"ALTER FUNCTION {function} SET search_path = public, pg_temp (with the schemas that it needs; in the DDL"
        " too), then run the same command again",
        detail=detail,
    )


#: Of a write in a read-only transaction, and of a read-write transaction on a standby.
_READ_ONLY, _STANDBY = "25006", "0A000"


def _read_only(state: str, message: str, doing: str, detail: str, context: str) -> DataFailure | None:
    """For a server that refuses a write: a standby, or one that its service has made read-only; else None."""
    if state in (_READ_ONLY, _STANDBY) and "during recovery" in message:
        return DataFailure(
            f"the server is a standby and accepts no writes, while {doing}",
            why=message,
            fix="give the address of the primary; after a failover, run the same command again",
            detail=detail,
        )
    if state != _READ_ONLY or "SQL function " in context:  # a write block, or a function of the user
        return None
    return DataFailure(
        f"the server accepts no writes, while {doing}",
        why=f"{message}: managed services refuse writes when the storage is nearly full",
        fix="enlarge the storage or free space, then run the same command again: completed work is kept",
        detail=detail,
    )


def failure(error: psycopg.Error, doing: str, needed: Mapping[str, str] = MappingProxyType({})) -> ConfitureError:
    """The server's error as an error of Confiture, with the object's name and the next command.

    :param needed: the privileges that the failed statement needs, by the kinds of objects in the server's messages.
    """
    diag = error.diag
    message = redact(diag.message_primary or str(error)).strip()
    detail = redact(" ".join(filter(None, (diag.message_detail, diag.message_hint, diag.context))))
    state = error.sqlstate or ""
    function = relies_on_search_path(error)
    if function is not None:
        return _search_path_failure(function, message, doing, detail)
    if state == "42501":
        return Refused(
            f"missing privilege while {doing}",
            why=message,
            fix=_grant(message, _role(error), needed),
            detail=detail,
        )
    if state == "55P03":
        return Held(
            f"timed out waiting for a lock while {doing}", why=message, fix="run the same command again", detail=detail
        )
    if state in ("40001", "40P01"):
        return Held(
            f"deadlock or serialization failure while {doing}",
            why=message,
            fix="run the same command again",
            detail=detail,
        )
    if state == "53100":
        return DataFailure(
            f"disk full while {doing}",
            why=message,
            fix="free disk space on that server, then run the same command again: completed work is kept",
            detail=detail,
        )
    refused = _read_only(state, message, doing, detail, diag.context or "")
    if refused is not None:
        return refused
    if retryable(error):
        return CannotConnect(
            f"the connection was lost while {doing}", why=message, fix="run the same command again", detail=detail
        )
    return DataFailure(f"SQL failed while {doing}", why=f"{message} ({state})", fix=detail, detail=detail)
