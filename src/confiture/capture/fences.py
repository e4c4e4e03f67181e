"""Write fences: a database is closed by triggers with the error in them, and opened by one row.

Closing creates triggers anew, because a flag would be missed by a transaction whose snapshot is older;
a flag may only open (correctness.md, 8). So each closing is a fence of its own, which takes one of two
names in turn, and one that was opened is dropped when its database is closed again.
AFTER ROW, because COPY inserts one row at a time where there is a BEFORE ROW trigger.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from confiture.db import WRITER, Transaction
from confiture.errors import Refused
from confiture.types import TableRef

#: Triggers fire in the order of their names: before the application's own.
_NAMES = ("aa", "ab")


def _name(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def _trigger(fence: str, schema: str, event: str) -> sql.Identifier:
    return sql.Identifier(f"{fence}_{schema}_{event}")


def _function(fence: str, schema: str) -> sql.Identifier:
    return sql.Identifier(schema, f"refuse_write_{fence}")


def _gate(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "gate")


def _fences(tx: Transaction, schema: str) -> dict[str, bool]:
    """Each fence of this database, and whether it was opened."""
    row = tx.pg.execute("SELECT to_regclass(format('%%I.gate', %s::text)) IS NOT NULL", (schema,)).fetchone()
    if row != (True,):
        return {}
    return dict(tx.pg.execute(sql.SQL("SELECT fence, open FROM {}").format(_gate(schema))).fetchall())


def _tables_below(tx: Transaction, ref: TableRef) -> list[TableRef]:
    """The table and its partitions of every level: TRUNCATE triggers are not cloned."""
    rows = tx.pg.execute(
        "SELECT n.nspname, c.relname FROM pg_partition_tree(%s::regclass) t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.level > 0",
        (_name(ref).as_string(tx.pg),),
    ).fetchall()
    return [ref, *(TableRef(*row) for row in rows)]


def close(tx: Transaction, schema: str, tables: Sequence[TableRef], message: str, hint: str) -> None:
    """Refuse every write but our own from this transaction's commit on, until :func:`open_gate`.

    Nothing to do where the database is closed already.

    :param message: the error late writers get, and ``hint``: where to write instead; no secret in them.
    """
    gate = _gate(schema)
    tx.pg.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (fence text PRIMARY KEY, open boolean NOT NULL)").format(gate))
    known = _fences(tx, schema)
    if not all(known.values()):
        return
    fence = next(name for name in _NAMES if name not in known)
    tx.pg.execute(sql.SQL("INSERT INTO {} VALUES ({}, false)").format(gate, sql.Literal(fence)))
    body = sql.SQL(
        "BEGIN IF NOT (SELECT open FROM {} WHERE fence = {}) THEN RAISE EXCEPTION USING MESSAGE = {},"
        " ERRCODE = 'read_only_sql_transaction', HINT = {}; END IF; RETURN NULL; END"
    )
    text = body.format(gate, sql.Literal(fence), sql.Literal(message), sql.Literal(hint))
    tx.pg.execute(
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {body}; REVOKE ALL ON FUNCTION {name}() FROM PUBLIC"
        ).format(name=_function(fence, schema), body=sql.Literal(text.as_string(tx.pg)))
    )
    for ref in tables:
        _create(tx, fence, schema, ref)


def _create(tx: Transaction, fence: str, schema: str, ref: TableRef) -> None:
    condition = sql.SQL("WHEN (pg_catalog.current_setting({}, true) IS DISTINCT FROM {})").format(
        sql.Literal(WRITER), sql.Literal(schema)
    )
    make = sql.SQL(
        "CREATE TRIGGER {trigger} {when} ON {table} FOR EACH {each} {condition} EXECUTE FUNCTION {function}();"
        " ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
    )

    def create(event: str, table: TableRef, when: str, each: str) -> None:
        trigger, function = _trigger(fence, schema, event), _function(fence, schema)
        names = {"trigger": trigger, "table": _name(table), "function": function, "condition": condition}
        tx.pg.execute(make.format(when=sql.SQL(when), each=sql.SQL(each), **names))

    create("rows", ref, "AFTER INSERT OR UPDATE OR DELETE", "ROW")
    for below in _tables_below(tx, ref):
        create("truncate", below, "BEFORE TRUNCATE", "STATEMENT")


def open_gate(tx: Transaction, schema: str) -> None:
    """Let the application write: one row."""
    tx.pg.execute(sql.SQL("UPDATE {} SET open = true WHERE NOT open").format(_gate(schema)))


def is_closed(tx: Transaction, schema: str) -> bool:
    """Whether the database refuses the application's writes, read from the database itself.

    :raises Refused: when its gate is shut, but somebody dropped or disabled its triggers.
    """
    shut = [name for name, opened in _fences(tx, schema).items() if not opened]
    for fence in shut:
        row = tx.pg.execute(
            "SELECT count(*) FILTER (WHERE tgenabled = 'A'), count(*) FROM pg_trigger"
            " WHERE tgname = %s AND tgparentid = 0",
            (f"{fence}_{schema}_rows",),
        ).fetchone()
        if row is None or row[0] != row[1] or not row[1]:
            raise Refused(
                "the fence of a closed database was tampered with",
                why=f"its triggers {fence}_{schema}_rows were dropped or disabled: writes may have come through",
                fix="stop the application's writes and enable the triggers again (ALTER TABLE ... ENABLE ALWAYS)",
            )
    return bool(shut)


def drop_opened(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> None:
    """Drop the fences that were opened: of no use, and one of the two names is wanted again."""
    for fence, opened in _fences(tx, schema).items():
        if opened:
            _drop(tx, fence, schema, tables)


def drop(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> None:
    """Drop every fence of a database, and the gate."""
    for fence in _fences(tx, schema):
        _drop(tx, fence, schema, tables)
    tx.pg.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_gate(schema)))


def drop_from(tx: Transaction, schema: str, table: TableRef) -> None:
    """Drop the triggers of every fence from one table; :func:`drop` does the rest."""
    for fence in _fences(tx, schema):
        _drop_triggers(tx, fence, schema, [table])


def _drop(tx: Transaction, fence: str, schema: str, tables: Sequence[TableRef]) -> None:
    _drop_triggers(tx, fence, schema, tables)
    tx.pg.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(fence, schema)))
    tx.pg.execute(sql.SQL("DELETE FROM {} WHERE fence = {}").format(_gate(schema), sql.Literal(fence)))


def _drop_triggers(tx: Transaction, fence: str, schema: str, tables: Sequence[TableRef]) -> None:
    for ref in tables:
        for below in _tables_below(tx, ref):
            events = ("rows", "truncate") if below == ref else ("truncate",)
            for event in events:
                trigger = _trigger(fence, schema, event)
                tx.pg.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger, _name(below)))
