"""What the application has on its tables that acts while Confiture writes: off, and back as it was.

Triggers fire, and rules rewrite, for rows that have been through them on the other side already (I-5.14, I-11.1). A
constraint NOT VALID refuses an old row that violates it when that row is copied or brought over again. A publication of
deletes refuses those of a table without a replica identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from psycopg import sql

from confiture.catalog import Catalog, Table, Unvalidated
from confiture.journal.deferred_objects import Deferred
from confiture.plan.projection import raw
from confiture.postgres.session import Transaction
from confiture.types import TableRef

#: By ``tgenabled`` and ``ev_enabled``; D is disabled.
_MODES = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}


def triggers(table: Table) -> Iterator[Deferred]:
    """The triggers of a table and its partitions that are not disabled; Confiture's own are among them."""
    for t in table.triggers:
        if t.enabled != "D":
            yield Deferred("trigger", t.table, t.name, t.definition, detail={"enabled": t.enabled})


def rules(table: Table) -> Iterator[Deferred]:
    """The rules ON INSERT, UPDATE and DELETE of a table and its partitions that are not disabled."""
    for r in table.rules:
        if r.enabled != "D":
            yield Deferred("rule", r.table, r.name, r.definition, detail={"enabled": r.enabled})


def unvalidated(found: Catalog, tables: Iterable[TableRef]) -> list[Deferred]:
    """The CHECK and NOT NULL constraints NOT VALID of these tables, and of every domain; parents before children."""
    wanted = set(tables)
    of_tables = sorted((c for t in found.tables if t.ref in wanted for c in t.unvalidated), key=lambda c: c.level)
    return [*(_check(c, domain=True) for c in found.domain_checks), *(_check(c, domain=False) for c in of_tables)]


def _check(c: Unvalidated, *, domain: bool) -> Deferred:
    # What is inherited is there once its parent's is: it comes last.
    detail = {"level": -1 if c.inherited else c.level, "domain": domain, "inherited": c.inherited}
    return Deferred("check", c.table, c.name, c.definition, comment=c.comment, detail=detail)


def publications(found: Catalog) -> Iterator[Deferred]:
    """The publications that would refuse a DELETE of Confiture's; what stands in place of a table's name is empty."""
    for p in found.publications:
        yield Deferred("publication", TableRef("", ""), p.name, p.publish)


def _publish(tx: Transaction, item: Deferred, what: str) -> None:
    statement = sql.SQL("ALTER PUBLICATION {} SET (publish = {})")
    tx.pg.execute(statement.format(sql.Identifier(item.name), sql.Literal(what)))


def disable(tx: Transaction, item: Deferred) -> None:
    """Take it off. A trigger takes SHARE ROW EXCLUSIVE, a rule or constraint ACCESS EXCLUSIVE, a publication none."""
    if item.kind == "publication":
        _publish(tx, item, "")
    elif item.kind == "check" and not (item.detail or {}).get("inherited"):
        statement = sql.SQL("ALTER {} {} DROP CONSTRAINT {}")
        tx.pg.execute(statement.format(_owner(item), _table(item), sql.Identifier(item.name)))
    elif item.kind != "check":
        _set(tx, item, "D")


def enable(tx: Transaction, item: Deferred) -> None:
    """Bring it back as it was, a constraint NOT VALID: a catalog change; the same locks."""
    if item.kind == "publication":
        _publish(tx, item, item.definition)
        return
    if item.kind != "check":
        _set(tx, item, (item.detail or {}).get("enabled", "O"))
        return
    name = sql.Identifier(item.name)
    if not (item.detail or {}).get("inherited"):
        statement = sql.SQL("ALTER {} {} ADD CONSTRAINT {} {}")
        tx.pg.execute(statement.format(_owner(item), _table(item), name, raw(item.definition)))
    if item.comment is not None:
        of = sql.SQL("DOMAIN " if (item.detail or {}).get("domain") else "")
        text = sql.Literal(item.comment)
        tx.pg.execute(sql.SQL("COMMENT ON CONSTRAINT {} ON {}{} IS {}").format(name, of, _table(item), text))


def _owner(item: Deferred) -> sql.SQL:
    return sql.SQL("DOMAIN" if (item.detail or {}).get("domain") else "TABLE")


def _table(item: Deferred) -> sql.Identifier:
    return sql.Identifier(item.table.schema, item.table.name)


def _set(tx: Transaction, item: Deferred, mode: str) -> None:
    # ONLY: each partition's is an item of its own, as it may be enabled otherwise than the root's.
    statement = sql.SQL("ALTER TABLE ONLY {} {} {} {}")
    kind = sql.SQL("RULE" if item.kind == "rule" else "TRIGGER")
    tx.pg.execute(statement.format(_table(item), sql.SQL(_MODES[mode]), kind, sql.Identifier(item.name)))
