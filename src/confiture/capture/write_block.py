"""The write block: a database that must not take writes refuses them by triggers, on every table and partition.

The triggers stand before they are needed, with a function that lets writes pass. One ``CREATE OR REPLACE FUNCTION``
blocks writes, or lets them pass again, however many tables there are. A statement that fires the trigger looks the
function up in the current catalog, whatever its transaction's snapshot is. So a transaction that began earlier is
refused too (docs/invariants.md, I-8.5 and I-8.11), where it would not see a flag in a row.

Row triggers, because logical replication fires no others and the server clones them to partitions that are attached
later; AFTER, because COPY inserts one row at a time where there is a BEFORE ROW trigger.
https://www.postgresql.org/docs/current/sql-createtrigger.html
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from confiture import fingerprint
from confiture.errors import Blocked
from confiture.postgres.profile import WRITER
from confiture.postgres.session import Transaction
from confiture.types import TableRef

_FUNCTION = "write_block"


def _name(ref: TableRef) -> sql.Identifier:
    return sql.Identifier(ref.schema, ref.name)


def _function(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, _FUNCTION)


def _trigger(schema: str, event: str) -> sql.Identifier:
    # Triggers fire in the order of their names: before the application's own.
    return sql.Identifier(f"aa_{schema}_{event}")


def block(tx: Transaction, schema: str, message: str, hint: str) -> None:
    """Refuse every write but Confiture's own from this transaction's commit on, wherever the triggers are installed.

    :param message: the error that a late writer gets, and ``hint``: where to write instead; no secret in them.
    """
    body = sql.SQL(
        "BEGIN RAISE EXCEPTION USING MESSAGE = {}, ERRCODE = 'read_only_sql_transaction', HINT = {}; END"
    ).format(sql.Literal(message), sql.Literal(hint))
    _replace(tx, schema, body)


def unblock(tx: Transaction, schema: str) -> None:
    """Let the application write from this transaction's commit on."""
    _replace(tx, schema, sql.Composed([sql.SQL("BEGIN RETURN NULL; END")]))


def _replace(tx: Transaction, schema: str, body: sql.Composed) -> None:
    tx.pg.execute(
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {body}; REVOKE ALL ON FUNCTION {name}() FROM PUBLIC"
        ).format(name=_function(schema), body=sql.Literal(body.as_string(tx.pg)))
    )


def exists(tx: Transaction, schema: str) -> bool:
    """Whether this database has a write block, which refuses writes or lets them pass."""
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


def install(tx: Transaction, schema: str, table: TableRef) -> None:
    """Create the triggers of one table and of its partitions, and record their fingerprint; harmless to repeat.

    CREATE TRIGGER waits for transactions that have written to the table. The function has to be there.
    """
    if not lacking(tx, schema, [table]):
        return
    remove(tx, schema, table)
    condition = sql.SQL("pg_catalog.current_setting({}, true) IS DISTINCT FROM {}").format(
        sql.Literal(WRITER), sql.Literal(schema)
    )
    form = sql.SQL(
        "CREATE TRIGGER {trigger} {when} ON {table} FOR EACH {each} WHEN ({condition}) EXECUTE FUNCTION {function}();"
        " ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
    )
    wanted = [("rows", table, "AFTER INSERT OR UPDATE OR DELETE", "ROW")]
    # The server clones triggers FOR EACH ROW to partitions, and no other trigger.
    wanted += [("truncate", member, "BEFORE TRUNCATE", "STATEMENT") for member in _members(tx, table)]
    for event, member, when, each in wanted:
        tx.pg.execute(
            form.format(
                trigger=_trigger(schema, event),
                when=sql.SQL(when),
                table=_name(member),
                each=sql.SQL(each),
                condition=condition,
                function=_function(schema),
            )
        )
    fingerprint.record(tx, schema, fingerprint.oids(tx, [table]), (fingerprint.WRITE_BLOCK,))


def lacking(tx: Transaction, schema: str, tables: Sequence[TableRef]) -> list[TableRef]:
    """The tables whose triggers are not there, or not as they were installed: two queries for all of them."""
    known = fingerprint.recorded(tx, schema, fingerprint.WRITE_BLOCK)
    damaged = {c.table for c in fingerprint.changes(tx, schema, [fingerprint.WRITE_BLOCK], tables)}
    return [table for table in tables if table not in known or table in damaged]


def _members(tx: Transaction, ref: TableRef) -> list[TableRef]:
    """The table and its partitions of every level."""
    rows = tx.pg.execute(
        "SELECT n.nspname, c.relname FROM pg_partition_tree(%s::regclass) t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.level > 0",
        (_name(ref).as_string(tx.pg),),
    ).fetchall()
    return [ref, *(TableRef(*row) for row in rows)]


def is_intact(tx: Transaction, schema: str) -> bool:
    """Whether each trigger is as it was installed: not even disabled for a moment, on no partition."""
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


def remove(tx: Transaction, schema: str, table: TableRef | None = None) -> None:
    """Drop the triggers of one table, or with None every trigger wherever it is now, and then the function.

    Triggers are found by their function: a table may have been renamed, a partition detached.
    """
    rows = tx.pg.execute(
        "SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE t.tgparentid = 0 AND p.pronamespace = to_regnamespace(quote_ident(%s)) AND p.proname = %s",
        (schema, _FUNCTION),
    ).fetchall()
    members = None if table is None else set(_members(tx, table))
    for schema_name, name, trigger in rows:
        if members is None or TableRef(schema_name, name) in members:
            drop = sql.SQL("DROP TRIGGER {} ON {}")
            tx.pg.execute(drop.format(sql.Identifier(trigger), sql.Identifier(schema_name, name)))
    if table is None:
        tx.pg.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(schema)))
    else:
        fingerprint.forget(tx, schema, [table], (fingerprint.WRITE_BLOCK,))


def triggers_of(tx: Transaction, schema: str, table: TableRef) -> list[str]:
    """The run's own triggers on one table, of the write block and of capture, whatever they are called now."""
    rows = tx.pg.execute(
        "SELECT t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " WHERE t.tgparentid = 0 AND p.pronamespace = to_regnamespace(quote_ident(%s)) AND t.tgrelid = to_regclass(%s)",
        (schema, _name(table).as_string(tx.pg)),
    ).fetchall()
    return [row[0] for row in rows]


def tables(tx: Transaction, schema: str) -> list[TableRef]:
    """The tables that have triggers of the write block or of capture, by their names of now; roots only."""
    rows = tx.pg.execute(
        "SELECT DISTINCT n.nspname, c.relname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE t.tgparentid = 0 AND p.pronamespace = to_regnamespace(quote_ident(%s)) ORDER BY 1, 2",
        (schema,),
    ).fetchall()
    return [TableRef(*row) for row in rows]
