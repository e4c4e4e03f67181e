"""``grants``: what the source's objects have, and the target's lack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import IsolationLevel, sql

from confiture.commands.databases import find_run, source_of, target_of
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.config import Database
from confiture.errors import Refused
from confiture.journal import runs, viewed
from confiture.plan import grants
from confiture.plan.grants import DefaultPrivileges, Described, Privilege, Side
from confiture.plan.model import plan_from_json
from confiture.plan.projection import raw
from confiture.postgres.session import Session, Transaction
from confiture.sql import load, template
from confiture.states import MIGRATING, SETUP
from confiture.types import TableRef, quoted


def from_source(where: Endpoints) -> str:
    """The statements that the target of a run lacks, as a file for psql. Nothing is changed.

    :raises Refused: when the target has no run, or no plan yet.
    """
    target = target_of(where)
    run = find_run(target, look=True)
    if run.plan is None:
        raise Refused("the run has no plan yet", why="setup stores it", fix=where.naming.command("setup"))
    plan = plan_from_json(run.plan)
    with translated("grants"):
        found = grants.lacking(_read(source_of(run, where)), _read(target, every=True), plan)
    return grants.as_sql(found, built=run.state not in (SETUP, MIGRATING))


def for_roles(where: Endpoints, viewers: Sequence[str], operators: Sequence[str], *, apply: bool = False) -> str:
    """The statements that let roles watch the runs of a target, or also steer them.

    :param viewers: roles that see no value of a row.
    :param operators: such roles that may also pause, resume, throttle and approve.
    :param apply: execute the statements too, in one transaction with an entry in the history.
    :raises Refused: when the target has no run, or a role does not exist.
    """
    target = target_of(where)
    run = find_run(target, look=not apply, medium=None)
    with translated("grants"), Session(target, "grants") as session, session.transaction(read_only=not apply) as tx:
        database = tx.pg.info.dbname
        lines = list(_notes(tx, [*viewers, *operators]))
        statements = [s for role in (*viewers, *operators) for s in _revoked(tx, role)]
        statements += [s for role in viewers for s in viewed.grants_of_viewer(database, role)]
        statements += [s for role in operators for s in viewed.grants_of_operator(database, role)]
        if apply:
            for statement in statements:
                tx.pg.execute(statement.encode())
            # Durable together: the privileges, and the note of them.
            detail = {"viewers": list(viewers), "operators": list(operators)}
            runs.note(tx, run.id, run.epoch, "granted", detail)
    return "\n".join([*lines, *(f"{statement};" for statement in statements)])


def _notes(tx: Transaction, roles: Sequence[str]) -> Iterator[str]:
    """Comments on roles that see values of rows in any case.

    :raises Refused: when a role does not exist.
    """
    known = load("grants.sql")["reach"]
    for role in roles:
        row = tx.pg.execute(known, _parameters(role)).fetchone()
        if row is None:
            raise Refused(
                f"role {quoted(role)} does not exist on the target's server",
                why="only an existing role can be granted a privilege",
                fix=f"CREATE ROLE {quoted(role)} LOGIN",
            )
        if row[0]:
            yield f"-- role {quoted(role)} sees values of rows in any case: {row[0]}"


def _revoked(tx: Transaction, role: str) -> Iterator[str]:
    """The statements that revoke what the role may write, and read of values, such as by default privileges."""
    for privilege, names in tx.pg.execute(load("grants.sql")["excess"], _parameters(role)).fetchall():
        yield f"REVOKE {privilege} ON {', '.join(f'confiture.{name}' for name in names)} FROM {quoted(role)}"


def _parameters(role: str) -> dict[str, object]:
    """A role, and the tables of the journal that no viewer reads as they are, for the queries."""
    return {"role": role, "tables": [*viewed.VIEWED, *viewed.HIDDEN]}


def _read(database: Database, *, every: bool = False) -> Side:
    objects = _filled("objects", privileges="j.privileges", usual="j.usual")
    defaults = _filled("default_privileges", privileges="a.defaclacl", usual="a.usual")
    with (
        Session(database, "grants") as session,
        session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx,
    ):
        return Side(
            tx.pg.info.server_version // 10_000,
            [_described(*row) for row in tx.pg.execute(objects, {"every": every}).fetchall()],
            [DefaultPrivileges(*row[:3], *map(_privileges, row[3:])) for row in tx.pg.execute(defaults).fetchall()],
            frozenset(name for (name,) in tx.pg.execute(load("grants.sql")["roles"]).fetchall()),
        )


def _filled(block: str, **lists: str) -> sql.Composed:
    explode = template("grants.sql", "explode")
    return template("grants.sql", block).format(**{name: explode.format(acl=raw(acl)) for name, acl in lists.items()})


def _described(
    kind: str,
    identity: str,
    schema: str | None,
    name: str | None,
    part: str | None,
    owner: str | None,
    privileges: Sequence[Sequence[Any]] | None,
    usual: Sequence[Sequence[Any]] | None,
    comment: str | None,
    labels: Sequence[Sequence[str]],
) -> Described:
    relation = TableRef(schema, name) if schema is not None and name is not None else None
    given, without = (None if some is None else _privileges(some) for some in (privileges, usual))
    known = frozenset((provider, label) for provider, label in labels)
    return Described(kind, identity, relation, part, owner, given, without, comment, known)


def _privileges(found: Sequence[Sequence[Any]]) -> frozenset[Privilege]:
    return frozenset((role, name, grantable) for role, name, grantable in found)
