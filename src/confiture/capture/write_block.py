"""The write block: triggers on every table and partition that refuse writes to a closed database.

The triggers are created before they are needed, with a function that allows writes. One ``CREATE OR REPLACE FUNCTION``
blocks writes, or allows them again, for any number of tables. A statement that fires the trigger looks the function up
in the current catalog, whatever the snapshot of its transaction. A transaction that began earlier is therefore refused
too (docs/invariants.md, I-8.5 and I-8.11); a flag in a row would not be visible to it.

The triggers are row triggers, because logical replication fires no others and the server clones them to partitions that
are attached later. They are AFTER triggers, because COPY inserts one row at a time where a BEFORE ROW trigger exists.
https://www.postgresql.org/docs/current/sql-createtrigger.html
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from confiture import fingerprint
from confiture.capture import run_triggers
from confiture.capture.run_triggers import RunTrigger
from confiture.errors import Blocked
from confiture.postgres.profile import WRITER
from confiture.postgres.session import Transaction
from confiture.sql import template
from confiture.types import TableRef

_FUNCTION = "write_block"


def _template(block: str) -> sql.SQL:
    return template("write_block.sql", block)


def _function(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, _FUNCTION)


def _trigger(schema: str, event: str) -> sql.Identifier:
    # Triggers fire in the order of their names: before the application's own.
    return sql.Identifier(f"aa_{schema}_{event}")


def block(tx: Transaction, schema: str, message: str, hint: str) -> None:
    """Refuse every write except those of Confiture from this transaction's commit on, to every table with the triggers.

    :param message: the error that a writer gets; it must not contain a secret.
    :param hint: the hint of that error: where to write instead; it must not contain a secret.
    """
    _replace(tx, schema, _template("refuse").format(message=sql.Literal(message), hint=sql.Literal(hint)))


def unblock(tx: Transaction, schema: str) -> None:
    """Allow the application to write from this transaction's commit on."""
    _replace(tx, schema, _template("allow").format())


def _replace(tx: Transaction, schema: str, body: sql.Composed) -> None:
    text = sql.Literal(body.as_string(tx.pg))
    tx.pg.execute(_template("function").format(function=_function(schema), body=text))


def exists(tx: Transaction, schema: str) -> bool:
    """Whether this database has a write block, which refuses or allows writes."""
    return _source_text(tx, schema) is not None


def _source_text(tx: Transaction, schema: str) -> str | None:
    row = tx.pg.execute(
        "SELECT prosrc FROM pg_proc WHERE pronamespace = to_regnamespace(quote_ident(%s)) AND proname = %s",
        (schema, _FUNCTION),
    ).fetchone()
    return None if row is None else str(row[0])


def is_blocked(tx: Transaction, schema: str) -> bool:
    """Whether the database refuses the application's writes, read from the database itself."""
    return "RAISE" in (_source_text(tx, schema) or "")


def closed_by_another(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> tuple[TableRef, str] | None:
    """One of these tables that another run has closed, and that run's schema (docs/invariants.md, I-8.1).

    The target of the other run then receives the writes. A target that opened for this run would be a second one.
    """
    row = tx.pg.execute(
        "SELECT n.nspname, c.relname, run.nspname FROM pg_proc p JOIN pg_namespace run ON run.oid = p.pronamespace"
        " JOIN pg_trigger t ON t.tgfoid = p.oid JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN unnest(%s::text[], %s::text[]) w(schema, name) ON (w.schema, w.name) = (n.nspname, c.relname)"
        " WHERE p.proname = %s AND p.prosrc LIKE '%%RAISE%%' AND run.nspname ~ '^confiture_[0-9a-f]{8}$'"
        " AND run.nspname <> %s LIMIT 1",
        ([t.schema for t in tables], [t.name for t in tables], _FUNCTION, schema),
    ).fetchone()
    return None if row is None else (TableRef(row[0], row[1]), str(row[2]))


def install(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> None:
    """Create the triggers of tables and of their partitions, and record their fingerprint; harmless to repeat.

    CREATE TRIGGER waits for transactions that have written to the table. The function must exist.
    """
    wanted = lacking(tx, schema, tables)
    if not wanted:
        return
    members = {table: (table, *run_triggers.partitions(tx, table)) for table in wanted}
    among = {part for parts in members.values() for part in parts}
    for trigger in _find(tx, schema):
        if trigger.table in among:
            run_triggers.drop(tx, trigger)
    fingerprint.discard(tx, schema, wanted, (fingerprint.WRITE_BLOCK,))
    for table, parts in members.items():
        _create(tx, schema, table, parts)
    fingerprint.record(tx, schema, fingerprint.oids(tx, wanted), (fingerprint.WRITE_BLOCK,))


def _create(tx: Transaction, schema: str, table: TableRef, parts: Sequence[TableRef]) -> None:
    wanted = [("rows", "row_trigger", table), *(("truncate", "truncate_trigger", part) for part in parts)]
    for event, block_name, part in wanted:
        holes = {"trigger": _trigger(schema, event), "table": part.identifier}
        create = _template(block_name).format(
            setting=sql.Literal(WRITER), writer=sql.Literal(schema), function=_function(schema), **holes
        )
        tx.pg.execute(create)
        tx.pg.execute(_template("always").format(**holes))


def lacking(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> list[TableRef]:
    """The tables whose triggers are missing or are not as they were installed: two queries for all of them."""
    known = fingerprint.recorded(tx, schema, fingerprint.WRITE_BLOCK)
    damaged = {c.table for c in fingerprint.changes(tx, schema, [fingerprint.WRITE_BLOCK], tables)}
    return [table for table in tables if table not in known or table in damaged]


def _find(tx: Transaction, schema: str) -> list[RunTrigger]:
    return run_triggers.find(tx, schema, _FUNCTION.replace("_", "\\_"))


def is_intact(tx: Transaction, schema: str) -> bool:
    """Whether each trigger, also on partitions, is as it was installed and was not disabled since."""
    return not fingerprint.changes(tx, schema, [fingerprint.WRITE_BLOCK])


def refuse_damaged(tx: Transaction, schema: str, side: str) -> None:
    """:raises Blocked: when a database is closed and a trigger of its write block was dropped or disabled."""
    if not is_blocked(tx, schema):
        return
    found = fingerprint.changes(tx, schema, [fingerprint.WRITE_BLOCK])
    if found:
        raise Blocked(
            f"the write block of the {side} was damaged",
            why=f"{found[0].table}: {found[0]}; rows may have been written to a database that is closed",
            fix="find out what wrote there; then restore the write block and compare every row",
            step="verify --again",
        )


def remove(tx: Transaction, schema: str) -> None:
    """Drop every trigger, and then the function."""
    for trigger in _find(tx, schema):
        run_triggers.drop(tx, trigger)
    tx.pg.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(schema)))
