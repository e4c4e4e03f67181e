"""Foreign keys, other constraints and indexes of the target (I-6.10)."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from confiture import fingerprint
from confiture.journal.model import SUSPENDED, Deferred, DeferredForeignKey, DeferredIndex, DeferredStatus, Difference
from confiture.plan.model import Plan
from confiture.plan.projection import raw
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef

ORPHANS_MOST = 100


def rows_of(tx: Transaction, ref: TableRef) -> sql.Composed:
    """A foreign key sees a table's partitions, but neither end sees inheritance children."""
    row = tx.pg.execute(load("constraints.sql")["partitioned"], [ref.schema, ref.name]).fetchone()
    return sql.SQL("{}{}").format(sql.SQL("" if row == (True,) else "ONLY "), ref.identifier)


def _same(key: DeferredForeignKey) -> list[sql.Composed]:
    """The key's test for each column of a parent ``p`` and a child ``c``, as the server's own check makes it.

    https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/ri_triggers.c
    """
    pairs = list(zip(key.columns, key.ref_columns, strict=True))
    if key.operators is None:  # recorded by an older version
        return [sql.SQL("p.{} = c.{}").format(sql.Identifier(r), sql.Identifier(c)) for c, r in pairs]
    return [
        sql.SQL("p.{}{} {} c.{}{}{}").format(
            sql.Identifier(r),
            _cast(by.left_type),
            raw(by.operator),
            sql.Identifier(c),
            _cast(by.right_type),
            raw(f" COLLATE {by.collation}" if by.collation else ""),
        )
        for (c, r), by in zip(pairs, key.operators, strict=True)
    ]


def _cast(type_name: str) -> sql.SQL:
    """A cast to the type of an operator's side. The operator of enums is declared for a pseudo-type: none is needed."""
    return raw("" if is_pseudo(type_name) else f"::{type_name}")


def is_pseudo(type_name: str) -> bool:
    """Whether a type, as :class:`KeyOperator` names it, is one that no value can be cast to."""
    return type_name.startswith(("pg_catalog.any", "pg_catalog.record"))


def parent_exists(tx: Transaction, key: DeferredForeignKey) -> sql.Composed:
    """The condition that the parent of a child ``c`` exists; the periods of several rows may cover that of a child."""
    tests = sql.SQL(" AND ").join(_same(key))
    parent = rows_of(tx, key.references)
    if not key.period:
        return sql.SQL("EXISTS (SELECT FROM {} p WHERE {})").format(parent, tests)
    return sql.SQL(
        "coalesce((SELECT pg_catalog.range_agg(p.{}) OPERATOR(pg_catalog.@>) c.{} FROM {} p WHERE {}), false)"
    ).format(sql.Identifier(key.ref_columns[-1]), sql.Identifier(key.columns[-1]), parent, tests)


def orphans(tx: Transaction, key: DeferredForeignKey) -> list[Difference]:
    """Rows without a parent, by an anti-join in the target with the operators of the key."""
    values = sql.SQL(", ").join(sql.SQL("c.{}::text").format(sql.Identifier(c)) for c in key.columns)
    filled = sql.SQL(" AND ").join(sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(c)) for c in key.columns)
    query = sql.SQL("SELECT DISTINCT {} FROM {} c WHERE {} AND NOT {} LIMIT {}").format(
        values, rows_of(tx, key.table), filled, parent_exists(tx, key), sql.Literal(ORPHANS_MOST)
    )
    return [
        Difference(
            "foreign_keys",
            f"{key.table} {key.name}",
            f"no parent in {key.references}",
            dict(zip(key.columns, row, strict=True)),
        )
        for row in tx.pg.execute(query).fetchall()
    ]


def explain_orphans(
    source: Transaction, found: list[Difference], key: DeferredForeignKey, plan: Plan, schema: str
) -> list[Difference]:
    """Add to each orphan whether the source has its parent: it was lost in the copy, or did not exist before."""
    parent = next((t for t in plan.tables if t.target == key.references), None)
    if parent is None:
        return found
    explained = []
    for item in found:
        values = list((item.key or {}).values())
        tests = sql.SQL(" AND ").join(
            sql.SQL("{}::text = {}").format(sql.Identifier(r), sql.Literal(v))
            for r, v in zip(key.ref_columns, values, strict=True)
        )
        view = sql.Identifier(schema, parent.view)
        row = source.pg.execute(sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(view, tests)).fetchone()
        there = row is not None and row[0]
        where = "the source has it" if there else "an orphan on the source too, or its parent is left out by $where"
        explained.append(Difference(item.check_name, item.subject, f"{item.kind}: {where}", item.key))
    return explained


def invalid(tx: Transaction, plan: Plan, taken: tuple[Deferred, ...]) -> Iterator[Difference]:
    """Foreign keys that are not validated although the DDL declares them so, and restored indexes that are not valid.

    An index that the DDL itself leaves invalid, as CREATE INDEX ON ONLY does, was not taken off.
    """
    for key in taken:
        if isinstance(key, DeferredForeignKey) and key.status is not DeferredStatus.OFF and key.validated:
            name = key.standing
            found = tx.pg.execute(load("constraints.sql")["validated"], [key.table.schema, key.table.name, name])
            if found.fetchone() != (True,):
                yield Difference("constraints", f"{key.table} {key.name}", "constraint not validated")
    there = fingerprint.oids(tx, [table.target for table in plan.tables])
    for table in plan.tables:
        if table.target not in there:
            yield Difference("constraints", str(table.target), "the table is gone")
    restored = [(d.table.schema, d.name) for d in taken if isinstance(d, DeferredIndex)]
    restored += [(table.target.schema, table.arbiter) for table in plan.tables if table.arbiter]
    names = {"schemas": [schema for schema, _ in restored], "names": [name for _, name in restored]}
    for table_name, name in tx.pg.execute(load("constraints.sql")["invalid"], names).fetchall():
        yield Difference("constraints", f"{table_name} {name}", "index not valid")


def off(taken: tuple[Deferred, ...]) -> Iterator[Difference]:
    """Objects that were dropped for the copy and are not restored."""
    for item in taken:
        if not isinstance(item, SUSPENDED) and item.status is DeferredStatus.OFF:
            yield Difference("constraints", f"{item.table} {item.name}", f"{item.kind} is not restored")
