"""Privileges that a run needs and its roles lack, each with the smallest statement that grants it. No I/O.

Every reason ends with its statement, complete and quoted, for an administrator to run in that database.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from confiture.catalog_model import Catalog, Identity, Sequence, Table
from confiture.errors import MissingPrivileges
from confiture.types import NAME, NAMES_SHOWN, TableRef, counted, grouped, quoted

#: The PostgreSQL version since which MAINTAIN allows a role to lock a table that it cannot write.
MAINTAIN_SINCE = 17
#: The PostgreSQL version since which each membership has its own INHERIT option.
INHERIT_SINCE = 16


def refusal(reasons: Iterable[str]) -> MissingPrivileges:
    """All reasons as one error; those that say the same of several objects are one line."""
    return MissingPrivileges(
        "privileges are missing",
        why="\n".join(grouped(_together(reasons), NAMES_SHOWN)),
        fix="an administrator runs these statements, each on the side it names; then run the same command again",
    )


_ON_ONE = re.compile(
    rf"(missing \w+ privilege on )(sequence )?(?P<ref>{NAME}\.{NAME})"
    r"( of the .+: GRANT \w+ ON (?:SEQUENCE )?)(?P=ref)( TO .+)"
)


def _together(reasons: Iterable[str]) -> Iterator[str]:
    """The reasons, with one statement for all objects on which the same privilege is missing."""
    found: dict[tuple[str, ...], list[str]] = {}
    for reason in reasons:
        match = _ON_ONE.fullmatch(reason)
        refs = found.setdefault((match[1], match[2] or "", match[4], match[5]) if match else (reason,), [])
        refs += [match["ref"]] if match else []
    for words, refs in found.items():
        if len(refs) < 2:
            yield words[0] if not refs else f"{words[0]}{words[1]}{refs[0]}{words[2]}{refs[0]}{words[3]}"
        else:
            kind = words[1].strip() or "table"
            yield f"{words[0]}{counted(len(refs), kind)}{words[2]}{', '.join(refs)}{words[3]}"


def membership(owner: str, role: Identity) -> str:
    """The statement after which ``role`` has the privileges of ``owner``."""
    grant = f"GRANT {quoted(owner)} TO {quoted(role.role)}"
    if role.major >= INHERIT_SINCE:
        return f"{grant} WITH INHERIT TRUE"  # repeated without it, a grant changes nothing
    return grant if role.inherits else f"{grant}; ALTER ROLE {quoted(role.role)} INHERIT"


def of_database(side: str, database: Identity) -> Iterator[str]:
    """For the run's schema, and on the source for the temporary views that check transforms."""
    needed = {"CREATE": database.may_create, "TEMPORARY": database.may_temp or side == "target"}
    missing = ", ".join(name for name, there in needed.items() if not there)
    if missing:
        name, role = quoted(database.database), quoted(database.role)
        yield f"role {role} lacks {missing} on the {side}: GRANT {missing} ON DATABASE {name} TO {role}"


def of_source(table: Table, role: Identity, *, capture: bool) -> Iterator[str]:
    """To read a table of the source, to lock it, and with capture to put triggers on it."""
    reader, schema, ref = quoted(role.role), quoted(table.ref.schema), table.ref
    joins = capture and not table.owned
    if not table.may_use_schema and not (joins and table.owner_uses_schema):
        yield f"missing USAGE privilege on schema {schema} of the source: GRANT USAGE ON SCHEMA {schema} TO {reader}"
    if joins:  # which also lets the role read and lock it
        yield (
            f"{ref} of the source belongs to {quoted(table.owner)}, and only the owner of a table may set a trigger to"
            f" ENABLE ALWAYS: {membership(table.owner, role)}"
        )
    else:
        yield from _to_read_and_lock(table, role)
    if table.row_security:
        yield from _row_security(table, role, "source", joins=joins)


def _to_read_and_lock(table: Table, role: Identity) -> Iterator[str]:
    reader, ref = quoted(role.role), table.ref
    if not table.may_select:
        yield f"missing SELECT privilege on {ref} of the source: GRANT SELECT ON {ref} TO {reader}"
    if not table.may_lock:
        privilege = "MAINTAIN" if role.major >= MAINTAIN_SINCE else "UPDATE"
        yield (
            f"missing {privilege} privilege on {ref} of the source, for the lock of the cutover:"
            f" GRANT {privilege} ON {ref} TO {reader}"
        )


def _row_security(table: Table, role: Identity, side: str, *, joins: bool) -> Iterator[str]:
    if joins and not table.forces_row_security:
        return  # no policy applies to the owner
    words = f"{table.ref} of the {side} has row security, which may hide rows from {quoted(role.role)}"
    if table.owned or joins:
        words += " (or run ALTER TABLE ... FORCE ROW LEVEL SECURITY only after cleanup)"
    yield f"{words}: ALTER ROLE {quoted(role.role)} BYPASSRLS"


def of_sequence(sequence: Sequence, catalog: Catalog, *, capture: bool) -> Iterator[str]:
    """To read the value of a sequence of the source. The owner of its table is joined for capture anyway."""
    table = catalog.by_ref.get(sequence.owner[0]) if sequence.owner is not None else None
    if not sequence.may_select and not (capture and table is not None and not table.owned):
        role = quoted(catalog.identity.role)
        ref = sequence.ref
        yield f"missing SELECT privilege on sequence {ref} of the source: GRANT SELECT ON SEQUENCE {ref} TO {role}"


def of_target(catalog: Catalog, refreshed: Collection[TableRef]) -> Iterator[str]:
    """To fill tables that exist or that the DDL creates, and to drop and create their indexes, keys and triggers."""
    role = catalog.identity
    name = quoted(role.role)
    for table in catalog.tables:
        if table.kind == "f":
            continue
        schema = quoted(table.ref.schema)
        if not (table.may_use_schema and table.may_create_in_schema):
            yield (
                f"role {name} may not create indexes in schema {schema} of the target:"
                f" GRANT USAGE, CREATE ON SCHEMA {schema} TO {name}"
            )
        if not table.owned:
            yield f"{table.ref} of the target belongs to {quoted(table.owner)}: {membership(table.owner, role)}"
        if table.row_security:
            yield from _row_security(table, role, "target", joins=not table.owned)
    for sequence in catalog.sequences:
        if not sequence.may_update and (sequence.owner is None or catalog.by_ref[sequence.owner[0]].owned):
            ref = sequence.ref
            yield f"missing UPDATE privilege on sequence {ref} of the target: GRANT UPDATE ON SEQUENCE {ref} TO {name}"
    altered = {*(quoted(p.name) for p in catalog.publications), *map(str, refreshed)}
    for kind, other, owner in catalog.of_others:
        if other in altered:
            yield f"{kind} {other} of the target belongs to {quoted(owner)}: {membership(owner, role)}"
