"""Large objects: listing them, their digests, and copying some with owner, comment and privileges.

They are read and written in pieces, because one may have terabytes, and they keep their OIDs, which rows contain.
https://www.postgresql.org/docs/current/largeobjects.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from psycopg import sql

from confiture.plan.projection import raw
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import load, template

#: Bytes that are read and written with one call, and that one digest covers.
PIECE_BYTES = 2**20
#: The most that one transaction copies: the server holds a lock on each object until it commits.
OBJECTS_MOST, BYTES_MOST = 500, 64 * 2**20
#: The largest OID.
LAST_OID = 2**32 - 1

_SQL = load("large_objects.sql")


@dataclass(frozen=True, slots=True)
class LargeObject:
    """A large object.

    :ivar size: in bytes; ``content``: the digest of its content, empty where it is not computed.
    :ivar privileges: (role, privilege, grantable), sorted; None stands for PUBLIC.
    """

    oid: int
    size: int
    owner: str
    comment: str | None
    privileges: tuple[tuple[str | None, str, bool], ...]
    content: str = ""

    def differing(self, other: LargeObject) -> Iterator[str]:
        """The differences between both: content, owner, comment or privileges."""
        if (self.size, self.content) != (other.size, other.content):
            yield "content"
        for name in ("owner", "comment", "privileges"):
            if getattr(self, name) != getattr(other, name):
                yield name


def count(tx: Transaction) -> int:
    """The number of large objects of the database."""
    return int(only_row(tx.pg.execute("SELECT count(*) FROM pg_largeobject_metadata"))[0])


def are_being_changed(tx: Transaction) -> bool:
    """Whether a transaction of another session removes an object, or changes its owner or comment."""
    return bool(only_row(tx.pg.execute(_SQL["being_changed"]))[0])


def listed(tx: Transaction, after: int, until: int | None = None) -> tuple[list[LargeObject], int]:
    """Large objects by OID without their contents, and the OID up to which the list is complete.

    :param after: only larger OIDs.
    :param until: up to this OID, however many there are; None for as many as one transaction copies.
    """
    most = OBJECTS_MOST if until is None else None
    values = {"after": after, "until": LAST_OID if until is None else until, "most": most}
    rows = tx.pg.execute(_SQL["objects"], values).fetchall()
    found = [
        LargeObject(oid, size, owner, comment, tuple((r, p, g) for r, p, g in privileges))
        for oid, size, owner, comment, privileges in rows
    ]
    if until is not None:
        return found, until
    part = _first(found)
    return part, LAST_OID if len(part) == len(rows) < OBJECTS_MOST else part[-1].oid


def _first(found: Sequence[LargeObject]) -> list[LargeObject]:
    """The first of them that are small enough together, but at least one."""
    part: list[LargeObject] = []
    size = 0
    for item in found:
        size += item.size
        if part and size > BYTES_MOST:
            break
        part.append(item)
    return part


def with_contents(tx: Transaction, found: Sequence[LargeObject]) -> list[LargeObject]:
    """The same objects with the digests of their contents."""
    values = {"oids": [o.oid for o in found], "sizes": [o.size for o in found], "piece": PIECE_BYTES}
    digests: dict[int, str] = dict(tx.pg.execute(_SQL["contents"], values).fetchall()) if found else {}
    return [replace(o, content=digests[o.oid]) for o in found]


# The record of the copy -----------------------------------------------------------------------------------


def has_records(tx: Transaction, schema: str) -> bool:
    """Whether the table of the records exists; an aborted setup may not have created it."""
    row = tx.pg.execute("SELECT to_regclass(quote_ident(%s) || '.large_object')", (schema,)).fetchone()
    return row is not None and row[0] is not None


def recorded(tx: Transaction, schema: str, after: int, until: int) -> dict[int, LargeObject | None]:
    """The objects that the run has copied, in a range of OIDs; None for one that is to be copied again.

    :param schema: the run's, in the target.
    """
    statement = template("large_objects.sql", "recorded").format(schema=sql.Identifier(schema))
    rows = tx.pg.execute(statement, {"after": after, "until": until}).fetchall()
    return {oid: _from_facts(facts) for oid, facts in rows}


def _from_facts(facts: dict[str, object]) -> LargeObject | None:
    if not facts:
        return None
    privileges = facts.pop("privileges")
    assert isinstance(privileges, list)
    return LargeObject(**facts, privileges=tuple((r, p, g) for r, p, g in privileges))  # type: ignore[arg-type]


def record(tx: Transaction, schema: str, found: Mapping[int, LargeObject | None]) -> None:
    """Record objects in the transaction that copies them; None for one that is to be copied again."""
    facts = [json.dumps(asdict(item) if item is not None else {}) for item in found.values()]
    statement = template("large_objects.sql", "record").format(schema=sql.Identifier(schema))
    tx.pg.execute(statement, {"oids": list(found), "facts": facts})


def discard(tx: Transaction, schema: str, oids: Sequence[int]) -> None:
    """Discard the records of objects in the transaction that removes them."""
    statement = sql.SQL("DELETE FROM {}.large_object WHERE oid = ANY (%s::oid[])")
    tx.pg.execute(statement.format(sql.Identifier(schema)), (list(oids),))


# Writing -------------------------------------------------------------------------------------------


def write(source: Transaction, target: Transaction, objects: Sequence[LargeObject]) -> list[LargeObject]:
    """Create the objects with their contents, owners, comments and privileges; they must not exist.

    :param source: a snapshot, or a transaction whose locks keep the objects from changing.
    :returns: the objects, each with the digest of the content that was written.
    :raises psycopg.errors.UniqueViolation: when there is another object with one of the OIDs.
    """
    digests = _write_small(source, target, [o for o in objects if o.size <= PIECE_BYTES])
    for item in objects:
        if item.size > PIECE_BYTES:
            digests[item.oid] = _write_large(source, target, item)
    _dress(target, objects)
    return [replace(o, content=digests[o.oid]) for o in objects]


def _write_small(source: Transaction, target: Transaction, objects: Sequence[LargeObject]) -> dict[int, str]:
    oids = [o.oid for o in objects]
    query = "SELECT o::bigint, lo_get(o, 0, %s) FROM unnest(%s::oid[]) o"
    rows = source.pg.execute(query, (PIECE_BYTES, oids), binary=True).fetchall()
    target.pg.execute(
        "SELECT lo_from_bytea(o, d) FROM unnest(%s::oid[], %b::bytea[]) x(o, d)",
        ([oid for oid, _ in rows], [data for _, data in rows]),
    )
    return {oid: _of_pieces([_md5(data)] if data else []) for oid, data in rows}


def _write_large(source: Transaction, target: Transaction, item: LargeObject) -> str:
    target.pg.execute("SELECT lo_create(%s)", (item.oid,))
    pieces = []
    for at in range(0, item.size, PIECE_BYTES):
        query = "SELECT lo_get(%s, %s, %s)"
        (data,) = only_row(source.pg.execute(query, (item.oid, at, PIECE_BYTES), binary=True))
        target.pg.execute("SELECT lo_put(%s, %s, %b)", (item.oid, at, data))
        pieces.append(_md5(data))
    return _of_pieces(pieces)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _of_pieces(digests: Sequence[str]) -> str:
    return _md5("".join(digests).encode())


def existing(tx: Transaction, oids: Sequence[int]) -> list[int]:
    """Those of the OIDs that are the OIDs of large objects."""
    query = "SELECT oid::bigint FROM pg_largeobject_metadata WHERE oid = ANY (%s::oid[]) ORDER BY oid"
    return [oid for (oid,) in tx.pg.execute(query, (list(oids),)).fetchall()]


def remove(tx: Transaction, oids: Sequence[int]) -> None:
    """Remove those of the objects that exist, whoever owns them."""
    me, superuser = only_row(tx.pg.execute(_SQL["role"]))
    for owner, some in tx.pg.execute(_SQL["owned"], {"oids": list(oids)}).fetchall():
        with _as_owner(tx, owner, me, needed=not superuser):
            tx.pg.execute("SELECT lo_unlink(o) FROM unnest(%s::oid[]) o", (some,))


@contextmanager
def _as_owner(tx: Transaction, owner: str, me: str, *, needed: bool) -> Iterator[None]:
    """Act as the owner: membership in its role need not be inherited."""
    form = sql.SQL("SET LOCAL ROLE {}")
    if needed and owner != me:
        tx.pg.execute(form.format(sql.Identifier(owner)))
    yield
    if needed and owner != me:
        tx.pg.execute(form.format(sql.Identifier(me)))


def _dress(tx: Transaction, objects: Sequence[LargeObject]) -> None:
    """Give new objects their comments, owners and privileges."""
    me, superuser = only_row(tx.pg.execute(_SQL["role"]))
    given: dict[int, list[str | None]] = dict(
        tx.pg.execute(_SQL["granted"], {"oids": [o.oid for o in objects]}).fetchall()
    )
    statements: list[sql.Composed] = []
    for item in objects:
        name = sql.SQL("LARGE OBJECT {}").format(sql.Literal(item.oid))
        if item.comment is not None:
            statements.append(sql.SQL("COMMENT ON {} IS {}").format(name, sql.Literal(item.comment)))
        if item.owner != me:
            statements.append(sql.SQL("ALTER {} OWNER TO {}").format(name, sql.Identifier(item.owner)))
    if statements:
        tx.pg.execute(sql.SQL("; ").join(statements))
    for item in objects:
        grants = list(_grants(item, given.get(item.oid, ())))
        if grants:
            with _as_owner(tx, item.owner, me, needed=not superuser):
                tx.pg.execute(sql.SQL("; ").join(grants))


def _grants(item: LargeObject, given: Sequence[str | None]) -> Iterator[sql.Composed]:
    """The statements that give an object its privileges; none for those that an object has anyway."""
    usual = ((item.owner, "SELECT", False), (item.owner, "UPDATE", False))
    if item.privileges == usual and not given:
        return
    name = sql.SQL("LARGE OBJECT {}").format(sql.Literal(item.oid))
    for role in dict.fromkeys((item.owner, *given)):
        yield sql.SQL("REVOKE ALL ON {} FROM {}").format(name, _role(role))
    for role, privilege, grantable in item.privileges:
        option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
        yield sql.SQL("GRANT {} ON {} TO {}{}").format(raw(privilege), name, _role(role), option)


def _role(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)
