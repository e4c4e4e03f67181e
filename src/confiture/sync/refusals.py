"""Databases that a sync does not write to, and what blocks the emptying of their tables."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from confiture import catalog, config
from confiture.catalog_model import Catalog, ForeignKey, Identity
from confiture.config import Database
from confiture.errors import Refused, UsageError
from confiture.plan import privileges
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef, counted, quoted, some

#: Names that an error lists.
SHOWN = 5


def refuse_protected(target: Database, project: Path) -> None:
    """Refuse an environment that is marked ``protected``, also when its database is named by its address.

    :raises Refused: naming the file.
    """
    for environment in _protected(target, project):
        raise Refused(
            f"the environment {environment} is protected",
            why=f"{config.ENVIRONMENTS / environment}.yaml has protected: true; a sync writes into its target",
            fix="name another target with --to",
        )


def _protected(target: Database, project: Path) -> Iterator[str]:
    if target.protected and target.environment is not None:
        yield target.environment
    for name in config.environments(project):
        try:
            known = config.resolve(name, project)
        except UsageError:
            continue  # it cannot be used, so that nothing is known of it
        if known.protected and _may_be_same(known, target):
            yield name


def _may_be_same(one: Database, other: Database) -> bool:
    """Whether two connection strings lead to databases of one name at one address; names of hosts are resolved."""
    services = [conninfo_to_dict(database.conninfo).get("service") for database in (one, other)]
    if any(services):  # its file determines the rest
        return services[0] == services[1] and one.dbname == other.dbname
    return one.dbname == other.dbname and bool(_addresses(one) & _addresses(other))


def _addresses(database: Database) -> frozenset[tuple[str, str]]:
    """The addresses and ports of a server, or of several; a socket is one of this machine."""
    given = conninfo_to_dict(database.conninfo)
    host, port = config.place(database.conninfo)
    hosts = str(given.get("hostaddr") or host or "localhost").split(",")
    ports = str(given.get("port") or port or "").split(",")
    found: set[tuple[str, str]] = set()
    for number, name in enumerate(hosts):
        at = ports[number] if len(ports) == len(hosts) else ports[0]
        found |= {(address, at) for address in (name, *_resolved(name))}
    return frozenset(found)


def _resolved(host: str) -> Iterator[str]:
    """The addresses of a host; ``localhost`` for each of this machine's own, and for a socket."""
    if host.startswith(("/", "@")):
        yield "localhost"
        return
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    except OSError:
        return  # it has none, so that nothing is reached by it
    for address in sorted(found):
        yield address
        if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            yield "localhost"


def refuse_same(source: Identity, target: Identity) -> None:
    """Refuse the source as its own target, by whatever name, address or standby it was reached.

    :raises Refused: naming both.
    """
    if source.same_database(target):
        raise Refused(
            "source and target are one database",
            why=f"both are database {quoted(target.database)} of the server with the identifier"
            f" {target.system_identifier}",
            fix="name another target with --to; a server that was copied file by file has the identifier of the"
            " original: create the target in another database of it",
        )


def refuse_standby(target: Identity) -> None:
    """:raises Refused: when the target is a standby, which accepts no writes."""
    if target.in_recovery:
        raise Refused(
            "the target is a standby",
            why=f"database {quoted(target.database)} is in recovery and accepts no writes",
            fix="name the primary with --to; a standby may be the source",
        )


def refuse_without_temporary(target: Identity) -> None:
    """:raises MissingPrivileges: when the role may not create the temporary tables through which references come."""
    if not target.may_temp:
        role, database = quoted(target.role), quoted(target.database)
        lacking = f"role {role} lacks TEMPORARY on the target: GRANT TEMPORARY ON DATABASE {database} TO {role}"
        raise privileges.refusal([lacking])


def refuse_source_of_a_run(tx: Transaction) -> None:
    """Refuse a target that a move into another schema reads from: its rows would be captured and moved on.

    :raises Refused: naming the schema of that run.
    """
    schemas = [name for (name,) in tx.pg.execute(load("sync.sql")["run_schemas"]).fetchall()]
    if schemas:
        raise Refused(
            f"the target {tx.pg.info.dbname} is the source of a run",
            why=f"it has schema {schemas[0]}, with which a move into another schema captures its writes",
            fix="complete or abort that run, or name another target with --to",
        )


def filled(tx: Transaction) -> tuple[TableRef, ...]:
    """The tables of a target that have rows."""
    # The plan refuses the missing privileges of all tables at once, and their policies.
    known = [t for t in catalog.outlines(tx) if t.kind != "f" and not t.row_security]
    readable = [t.ref for t in known if t.may_use_schema and t.may_select]
    rows = sql.SQL(", ").join(sql.SQL("EXISTS (SELECT FROM {})").format(ref.identifier) for ref in readable)
    found = only_row(tx.pg.execute(sql.SQL("SELECT ARRAY[{}]::boolean[]").format(rows)))[0]
    return tuple(ref for ref, has_rows in zip(readable, found, strict=True) if has_rows)


def refuse_rows(target: Identity, found: Collection[TableRef], *, replace: bool) -> None:
    """:raises Refused: when tables have rows and the operator has not asked to replace rows."""
    if found and not replace:
        raise Refused(
            f"the target {target.database} holds rows",
            why=f"in {some([str(ref) for ref in found], SHOWN)}",
            fix="empty the tables of the sync first with --replace, which asks for the name of the database",
        )


def outside_references(
    target: Catalog, emptied: Collection[TableRef], planned: Collection[TableRef]
) -> list[ForeignKey]:
    """The foreign keys with which tables outside of a sync refer to tables that it empties."""
    others = (t for t in target.tables if t.ref not in planned)
    return [key for table in others for key in table.foreign_keys if key.references in emptied]


def refuse_outside_references(
    target: Catalog, emptied: Collection[TableRef], planned: Collection[TableRef], filled: Collection[TableRef]
) -> None:
    """Refuse to empty a table that a table outside of the sync refers to, whose rows would lose their parents.

    :param emptied: the tables that are emptied.
    :param planned: all tables of the sync.
    :param filled: the tables of the target that have rows.
    :raises Refused: naming each foreign key.
    """
    found = [
        f"{key.name} of {key.table} refers to {key.references}"
        for table in target.tables
        if table.ref not in planned and table.ref in filled
        for key in table.foreign_keys
        if key.references in emptied and key.references in filled
    ]
    if found:
        raise Refused(
            f"tables outside of the sync refer to {counted(len(emptied), 'table')} that it would empty",
            why="\n".join(found),
            fix="name these tables under --tables too, or drop those foreign keys",
        )
