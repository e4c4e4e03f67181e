"""Roles that the target's DDL names, and that the role executing it lacks or may not use: all of them at once.

The server itself decides what is missing: each statement is executed in a savepoint, and again with CURRENT_USER in
place of a role that it rejects. Any other failure there is not reported; the build reports it once the roles exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import psycopg

from confiture import build, ddl
from confiture.catalog_model import Identity
from confiture.ddl import Statement, Token
from confiture.plan.privileges import INHERIT_SINCE, membership
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import quoted

#: The server's functions that reject a role, for the languages that its messages are in.
_UNKNOWN = frozenset({"get_role_oid", "get_rolespec_tuple"})
_NO_MEMBER = frozenset({"check_can_set_role", "check_is_member_of_role"})
_DEFAULTS = "ExecAlterDefaultPrivilegesStmt"
#: A role in a message, in the quotation marks of any language.
_NAMED = re.compile(r"[\"“„«»]\s?(.+?)\s?[\"”“»«]$|[\"“„«»]\s?(.+?)\s?[\"”“»«]")
#: Words of ALTER before the name of the object.
_BEFORE_NAME = frozenset({"foreign", "materialized", "table", "view", "if", "exists", "only"})


#: Words that stand for a role, and that a name of a role may only contain in quotes.
_NO_ROLES = frozenset({"public", "current_user", "session_user", "current_role", "group"})


class _Roles:
    """The findings; each list in the order of the DDL."""

    def __init__(self, tx: Transaction, role: Identity, *, here: bool) -> None:
        self.pg = tx.pg
        self.role = role
        self.here = here
        self.schemas = {n for (n,) in tx.pg.execute("SELECT nspname FROM pg_catalog.pg_namespace").fetchall() if here}
        self.unknown: list[str] = []
        self.no_member: list[str] = []
        self.new_owners: list[str] = []
        self.owners: list[tuple[str, str]] = []  # (schema, role) of new owners that may not own objects there
        self.closed: list[str] = []

    def execute(self, statement: Statement) -> None:
        """Execute a statement, and note the roles that it names in vain."""
        text = statement.text
        owned = _new_owner(list(ddl.tokens(text)), text)
        while True:
            error = self._failed(text)
            if error is None:
                break
            name = self._note(error, text)
            replaced = _without(text, name) if name is not None else text
            if replaced == text:
                self._note_unexecuted(error, text)
                break
            text = replaced
        if owned is not None and not self.role.superuser:
            self._note_owner(*owned)

    def _failed(self, text: str) -> psycopg.Error | None:
        try:
            with self.pg.transaction():
                self.pg.execute(text.encode(), prepare=False)
        except psycopg.Error as error:
            return error
        return None

    def _note(self, error: psycopg.Error, text: str) -> str | None:
        """The role that the server rejects; None when the error is about something else."""
        function = error.diag.source_function
        if function == _DEFAULTS and error.sqlstate == "42501":
            name = _default_of(list(ddl.tokens(text)), text)
        elif function in _UNKNOWN | _NO_MEMBER:
            found = _NAMED.search(error.diag.message_primary or "")
            name = next(filter(None, found.groups()), None) if found is not None else None
        else:
            return None
        if name is None:
            return None
        known = self.unknown if function in _UNKNOWN else self.no_member
        if name not in known:
            known.append(name)
        return name

    def _note_unexecuted(self, error: psycopg.Error, text: str) -> None:
        """Of a statement that fails for another reason: a schema that is closed to us, and roles by their position."""
        found = list(ddl.tokens(text))
        values = {"names": list({_name(t, text) for t in found}), "roles": _positions(found, text)}
        if error.sqlstate == "42501" and self.here:
            rows = self.pg.execute(load("roles.sql")["closed"], values).fetchall()
            self.closed += [name for (name,) in rows if name not in self.closed]
        rows = self.pg.execute(load("roles.sql")["unknown"], values).fetchall()
        self.unknown += [name for (name,) in rows if name not in self.unknown]

    def _note_owner(self, schema: str | None, name: str) -> None:
        """A new owner needs CREATE on the schema of the object, and we need to be a member of it."""
        self.new_owners.append(name)
        query = load("roles.sql")["may_own"]
        row = self.pg.execute(query, {"schema": schema, "role": name}).fetchone()
        if row is not None and not row[1] and (row[0], name) not in self.owners:
            self.owners.append((row[0], name))

    def reasons(self) -> Iterator[str]:
        """The roles and privileges that the target's server lacks, with the statements."""
        me = quoted(self.role.role)
        for schema in self.closed:
            name = quoted(schema)
            yield (
                f"role {me} may not create objects in schema {name} of the target:"
                f" GRANT USAGE, CREATE ON SCHEMA {name} TO {me}"
            )
        if self.unknown:
            statements = "; ".join(f"CREATE ROLE {quoted(name)}" for name in self.unknown)
            yield f"the target's DDL names roles that its server does not have: {statements}"
        joined = dict.fromkeys((*self.no_member, *(name for name in self.new_owners if name in self.unknown)))
        for name in joined:
            grant = membership(name, self.role)
            also = ", SET TRUE" if self.role.major >= INHERIT_SINCE else ""
            yield f"the target's DDL acts for role {quoted(name)}, of which {me} is no member: {grant}{also}"
        for schema, name in self.owners:
            owner, grant = quoted(name), f"GRANT CREATE ON SCHEMA {quoted(schema)} TO {quoted(name)}"
            where = "" if schema in self.schemas else ", in the DDL before the first use"
            yield f"role {owner} may not own objects in schema {quoted(schema)} of the target{where}: {grant}"


def missing(tx: Transaction, files: Sequence[build.DdlFile], role: Identity, *, here: bool) -> list[str]:
    """Each role that the DDL names and that cannot be used, with the statement; empty when there is none.

    :param tx: with the session's own search path; the caller rolls it back.
    :param here: whether this database is the target; False while the target does not exist.
    """
    found = _Roles(tx, role, here=here)
    for file in files:
        for statement in ddl.split(file.text, str(file.path)):
            found.execute(statement)
    return list(found.reasons())


def _without(text: str, role: str) -> str:
    """The statement with CURRENT_USER in place of the role; as it was, where it does not name the role itself."""
    for token in reversed(list(ddl.tokens(text))):
        if _name(token, text) == role:
            text = f"{text[: token.start]}CURRENT_USER{text[token.end :]}"
    return text


def _name(token: Token, text: str) -> str:
    """The name that a token is, folded unless it is quoted."""
    written = text[token.start : token.end]
    return written[1:-1].replace('""', '"') if written.startswith('"') else token.word


def _new_owner(tokens: Sequence[Token], text: str) -> tuple[str | None, str] | None:
    """(schema, role) of ``ALTER ... OWNER TO``; the schema is None where the search path decides it."""
    words = [t.word for t in tokens]
    at = next((n for n in range(len(words) - 2) if words[n : n + 2] == ["owner", "to"]), None)
    if not words or words[0] != "alter" or at is None or words[1] in ("schema", "database", "publication"):
        return None
    start = 2
    while words[start] in _BEFORE_NAME:
        start += 1
    schema = _name(tokens[start], text) if words[start + 1] == "." else None
    return schema, _name(tokens[at + 2], text)


def _positions(tokens: Sequence[Token], text: str) -> list[str]:
    """The names where a statement names roles, for a statement that cannot be executed."""
    words = [t.word for t in tokens]
    found = [n + 2 for n in range(len(words) - 2) if words[n : n + 2] in (["owner", "to"], ["for", "role"])]
    found += [n + 1 for n in range(len(words) - 1) if words[n] == "authorization"]
    if words and (words[0] in ("grant", "revoke") or words[:2] in (["create", "policy"], ["alter", "default"])):
        at = next((n for n in range(len(words) - 1) if words[n] in ("to", "from")), len(words))
        found += [at + 1] if at + 1 < len(words) else []
        while (at := at + 2) < len(words) - 1 and words[at] == ",":
            found.append(at + 1)
    return [_name(tokens[n], text) for n in found if words[n] not in _NO_ROLES]


def _default_of(tokens: Sequence[Token], text: str) -> str | None:
    """The role of ``ALTER DEFAULT PRIVILEGES FOR ROLE``."""
    words = [t.word for t in tokens]
    at = next((n for n in range(len(words) - 2) if words[n] == "for" and words[n + 1] in ("role", "user")), None)
    return None if at is None else _name(tokens[at + 2], text)
