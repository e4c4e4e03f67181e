"""Reads the system catalogs of a database into values. Only this module reads them for planning."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from psycopg.rows import dict_row

from confiture.catalog_model import (
    Catalog,
    Column,
    EventTrigger,
    Filled,
    ForeignKey,
    Identity,
    Index,
    LargeObjects,
    MaterializedView,
    Publication,
    Rule,
    Sequence,
    Table,
    Trigger,
    Unvalidated,
)
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import Json, KeyOperator, TableRef, ValidBelow, quoted

_SQL = "catalog.sql"


def _query(tx: Transaction, block: str, **parameters: object) -> list[Json]:
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        text = load(_SQL)[block].decode()
        return cursor.execute(text, parameters or None).fetchall()


def identity(tx: Transaction) -> Identity:
    """The identity of the transaction's database."""
    row = _query(tx, "identity")[0]
    for name in ("role_connections", "database_connections", "server_connections"):
        row[name] = tuple(row[name])
    return Identity(**row)


def _grouped(tx: Transaction, name: str, oids: list[int]) -> dict[int, list[Json]]:
    grouped: dict[int, list[Json]] = defaultdict(list)
    for row in _query(tx, name, tables=oids) if oids else ():
        grouped[row.pop("table_oid")].append(row)
    return grouped


def _of_table(row: Json) -> Json:
    table = TableRef(row.pop("table_schema"), row.pop("table_name"))
    return {**row, "table": table}


def _index(row: Json) -> Index:
    schema, name = row.pop("parent_schema"), row.pop("parent_name")
    row["parent"] = None if name is None else TableRef(schema, name)
    row["columns"], row["options"] = tuple(row["columns"]), tuple(row["options"])
    row["statistics"] = tuple((number, target) for number, target in row["statistics"])
    return Index(**_of_table(row))


def _publication(row: Json) -> Publication:
    return Publication(**{**row, "tables": tuple(TableRef(**t) for t in row["tables"])})


def _unvalidated(row: Json) -> Unvalidated:
    row["valid_below"] = tuple(ValidBelow(**{**b, "table": TableRef(**b["table"])}) for b in row["valid_below"])
    return Unvalidated(**_of_table(row))


def _foreign_key(row: Json) -> ForeignKey:
    row["references"] = TableRef(row.pop("ref_schema"), row.pop("ref_name"))
    row["columns"] = tuple(row["columns"])
    row["ref_columns"] = tuple(row["ref_columns"])
    row["operators"] = tuple(KeyOperator(**o) for o in row["operators"])
    return ForeignKey(**_of_table(row))


def outlines(tx: Transaction) -> tuple[Table, ...]:
    """The tables alone, without their columns and without the objects on them."""
    return tuple(Table(ref=TableRef(row.pop("schema"), row.pop("name")), **row) for row in _query(tx, "tables"))


def read(tx: Transaction) -> Catalog:
    """Read the catalogs. The result is consistent if the transaction is REPEATABLE READ."""
    found = outlines(tx)
    oids = [table.oid for table in found]
    columns = _grouped(tx, "columns", oids)
    indexes = {oid: [_index(i) for i in on_table] for oid, on_table in _grouped(tx, "indexes", oids).items()}
    foreign_keys = _grouped(tx, "foreign_keys", oids)
    unvalidated = _grouped(tx, "unvalidated", oids)
    triggers = _grouped(tx, "triggers", oids)
    rules = _grouped(tx, "rules", oids)
    tables = tuple(
        replace(
            table,
            columns=tuple(Column(**c) for c in columns[table.oid]),
            indexes=tuple(i for i in indexes.get(table.oid, ()) if i.level == 0),
            partition_indexes=tuple(i for i in indexes.get(table.oid, ()) if i.level > 0),
            foreign_keys=tuple(_foreign_key(f) for f in foreign_keys[table.oid]),
            unvalidated=tuple(_unvalidated(c) for c in unvalidated[table.oid]),
            triggers=tuple(Trigger(**_of_table(t)) for t in triggers[table.oid]),
            rules=tuple(Rule(**_of_table(r)) for r in rules[table.oid]),
        )
        for table in found
    )
    return Catalog(
        identity=identity(tx),
        tables=tables,
        sequences=_sequences(tx, tables),
        materialized_views=tuple(_materialized_view(v) for v in _query(tx, "materialized_views")),
        extensions={e["name"]: e["version"] for e in _query(tx, "extensions")},
        domain_checks=tuple(Unvalidated(**_of_table(c)) for c in _query(tx, "unvalidated_of_domains")),
        publications=tuple(_publication(p) for p in _query(tx, "publications")),
        of_others=tuple((o["kind"], _name(o["schema"], o["name"]), o["owner"]) for o in _query(tx, "of_others")),
        event_triggers=tuple(EventTrigger(**e) for e in _query(tx, "event_triggers")),
        large_objects=_large_objects(_query(tx, "large_objects")[0]),
        roles={r["name"]: r["may_act"] for r in _query(tx, "roles")},
    )


def _materialized_view(row: Json) -> MaterializedView:
    reads = tuple(TableRef(**v) for v in row["reads"])
    return MaterializedView(TableRef(row["schema"], row["name"]), row["populated"], reads)


def _name(schema: str | None, name: str) -> str:
    return quoted(name) if schema is None else str(TableRef(schema, name))


def _large_objects(row: Json) -> LargeObjects:
    for name in ("owners", "grantees", "unreadable_owners"):
        row[name] = tuple(row[name])
    return LargeObjects(**row)


def _sequences(tx: Transaction, tables: tuple[Table, ...]) -> tuple[Sequence, ...]:
    refs = {t.oid: t.ref for t in tables}
    found = []
    for row in _query(tx, "sequences"):
        table = refs.get(row["owner_table_oid"])
        owner = (table, row["owner_column"]) if table is not None and row["owner_column"] else None
        fills = (Filled(refs[f["table_oid"]], f["column"], f["plain"]) for f in row["fills"] if f["table_oid"] in refs)
        found.append(
            Sequence(
                ref=TableRef(row["schema"], row["name"]),
                increment=row["increment"],
                minimum=row["minimum"],
                maximum=row["maximum"],
                last=row["last"],
                owner=owner,
                fills=tuple(fills),
                may_select=row["may_select"],
                may_update=row["may_update"],
            )
        )
    return tuple(found)
