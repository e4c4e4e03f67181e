"""Write fences: the target is closed until the cutover, the source from then on.

Both are triggers with the error in them. The source is closed by creating its triggers, because a flag
would be missed by a transaction whose snapshot is older; a flag may only open (correctness.md, 8).
AFTER ROW on the target, because COPY inserts one row at a time where there is a BEFORE ROW trigger.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from confiture.db import WRITER, Transaction
from confiture.types import TableRef


def _name(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def _trigger(schema: str, event: str) -> sql.Identifier:
    return sql.Identifier(f"aa_{schema}_{event}")


def _tables_below(tx: Transaction, ref: TableRef) -> list[TableRef]:
    """The table and its partitions of every level: TRUNCATE triggers are not cloned."""
    rows = tx.pg.execute(
        "SELECT n.nspname, c.relname FROM pg_partition_tree(%s::regclass) t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.level > 0",
        (_name(ref).as_string(tx.pg),),
    ).fetchall()
    return [ref, *(TableRef(*row) for row in rows)]


def _create(tx: Transaction, schema: str, ref: TableRef, when: str) -> None:
    """The table's two triggers; nothing to do where they are."""
    there = tx.pg.execute(
        "SELECT 1 FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s",
        (_name(ref).as_string(tx.pg), f"aa_{schema}_rows"),
    ).fetchone()
    if there is not None:
        return
    condition = sql.SQL("WHEN (pg_catalog.current_setting({}, true) IS DISTINCT FROM {})").format(
        sql.Literal(WRITER), sql.Literal(schema)
    )
    make = sql.SQL(
        "CREATE TRIGGER {trigger} {when} ON {table} FOR EACH {each} {condition} EXECUTE FUNCTION {function}();"
        " ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
    )
    function = sql.Identifier(schema, "refuse_write")
    rows = sql.SQL(when + " INSERT OR UPDATE OR DELETE")
    tx.pg.execute(
        make.format(
            trigger=_trigger(schema, "rows"), when=rows, table=_name(ref), each=sql.SQL("ROW"),
            condition=condition, function=function,
        )
    )  # fmt: skip
    for below in _tables_below(tx, ref):
        tx.pg.execute(
            make.format(
                trigger=_trigger(schema, "truncate"), when=sql.SQL("BEFORE TRUNCATE"), table=_name(below),
                each=sql.SQL("STATEMENT"), condition=condition, function=function,
            )
        )  # fmt: skip


def _drop(tx: Transaction, schema: str, ref: TableRef) -> None:
    tx.pg.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(_trigger(schema, "rows"), _name(ref)))
    for below in _tables_below(tx, ref):
        tx.pg.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(_trigger(schema, "truncate"), _name(below)))


def close_target(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> None:
    """Fence the target's tables: only our own writes pass until :func:`open_target`."""
    gate = sql.Identifier(schema, "gate")
    tx.pg.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (open boolean NOT NULL)").format(gate))
    tx.pg.execute(sql.SQL("INSERT INTO {gate} SELECT false WHERE NOT EXISTS (SELECT FROM {gate})").format(gate=gate))
    body = sql.SQL(
        "BEGIN IF NOT (SELECT open FROM {}) THEN RAISE EXCEPTION 'this database does not take writes yet'"
        " USING ERRCODE = 'read_only_sql_transaction', HINT = {}; END IF; RETURN NULL; END"
    ).format(gate, sql.Literal(f"it is the target of the running migration {schema}; write to the old database"))
    _function(tx, schema, body)
    for ref in tables:
        _create(tx, schema, ref, "AFTER")


def open_target(tx: Transaction, schema: str) -> None:
    """Let the application write to the target: one row."""
    tx.pg.execute(sql.SQL("UPDATE {} SET open = true").format(sql.Identifier(schema, "gate")))


def close_source(tx: Transaction, schema: str, tables: Sequence[TableRef], database: str) -> None:
    """Refuse every write on the source from this transaction's commit on: the point of no return.

    :param database: the new one, for the error's hint; no secret in it.
    """
    body = sql.SQL(
        "BEGIN RAISE EXCEPTION 'this database no longer takes writes'"
        " USING ERRCODE = 'read_only_sql_transaction', HINT = {}; END"
    ).format(sql.Literal(f"its data is served by: {database}"))
    _function(tx, schema, body)
    for ref in tables:
        _create(tx, schema, ref, "BEFORE")


def source_closed(tx: Transaction, schema: str) -> bool:
    """Whether the point of no return is behind us, read from the source itself."""
    row = tx.pg.execute("SELECT 1 FROM pg_trigger WHERE tgname = %s LIMIT 1", (f"aa_{schema}_rows",)).fetchone()
    return row is not None


def reopen(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> None:
    """Drop the fences of a database."""
    for ref in tables:
        _drop(tx, schema, ref)
    tx.pg.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(sql.Identifier(schema, "refuse_write")))


def _function(tx: Transaction, schema: str, body: sql.Composed) -> None:
    tx.pg.execute(
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {body}; REVOKE ALL ON FUNCTION {name}() FROM PUBLIC"
        ).format(name=sql.Identifier(schema, "refuse_write"), body=sql.Literal(body.as_string(tx.pg)))
    )
