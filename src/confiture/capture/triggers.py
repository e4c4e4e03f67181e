"""Triggers on the source that write the keys of changed rows into a log table per source table.

Plain tables get statement-level triggers with transition tables; partitioned tables and tables fed by a
subscription get row-level ones on the root, because statement triggers miss rows that MERGE moves
between partitions, DML that names a leaf, and logical apply. All fire always, TRUNCATE too
(docs/invariants.md, I-4.3 to I-4.6).
https://www.postgresql.org/docs/current/sql-createtrigger.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from psycopg import sql

from confiture import fingerprint
from confiture.capture import run_triggers
from confiture.journal import source
from confiture.plan.model import KeyColumn, TablePlan
from confiture.plan.projection import raw
from confiture.postgres.connection import only_row
from confiture.postgres.profile import WRITER
from confiture.postgres.session import Transaction
from confiture.sql import template
from confiture.types import TableRef

#: Names of triggers: for statements, for rows whose key changed, for rows where statement-level triggers miss some.
EVENTS = ("insert", "update", "delete", "key", "row", "truncate")


def _template(block: str) -> sql.SQL:
    return template("capture.sql", block)


@dataclass(frozen=True, slots=True)
class Captured:
    """A source table whose changes are logged.

    :ivar number: names its log table and its functions.
    :ivar key: the walk key, which every target of the table shares.
    :ivar schema: the run's own.
    :ivar layouts: the positions of the key's columns, from 1, with the OIDs of the partitions that have them there; the
        table itself comes first. Empty until :func:`install` has read them.
    """

    number: int
    table: TableRef
    key: tuple[KeyColumn, ...]
    schema: str
    layouts: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = field(default=(), compare=False)

    @property
    def log(self) -> sql.Identifier:
        """The log table: the key as ``k1``, ``k2``..., ``truncated``."""
        return sql.Identifier(self.schema, self.log_name)

    @property
    def log_name(self) -> str:
        """The log table's name within the run's schema."""
        return f"log{self.number:04d}"

    @property
    def log_key(self) -> sql.Composed:
        """The log's key columns, separated by commas."""
        return sql.SQL(", ").join(sql.Identifier(f"k{i}") for i in range(1, len(self.key) + 1))

    @property
    def source(self) -> sql.Identifier:
        """The table itself."""
        return self.table.identifier

    def keys_from(self, rows: sql.Composable, layout: int = 0) -> sql.Composed:
        """A SELECT of the key from a relation with the table's columns, which are named by position.

        :param layout: the index in ``layouts`` of the order that the relation has its columns in.
        """
        positions, _ = self.layouts[layout]
        names = [sql.Identifier(f"c{n}") for n in range(1, max(positions) + 1)]
        key = sql.SQL(", ").join(names[p - 1] for p in positions)
        return _template("key").format(key=key, rows=rows, columns=sql.SQL(", ").join(names))

    def columns(self, alias: str) -> sql.Composed:
        """The key's columns of OLD or NEW in a trigger's condition, which the server stores by number."""
        return sql.SQL(", ").join(sql.Identifier(alias, k.source) for k in self.key)

    @property
    def storage(self) -> sql.Identifier:
        """The table of the storages that each table had when capture began, and that each TRUNCATE has created."""
        return source.table(self.schema, "storage")

    def trigger(self, event: str) -> sql.Identifier:
        """The name of a trigger; it sorts behind those of the application, and so the trigger fires after them."""
        return sql.Identifier(f"zz_{self.schema}_{event}")

    def function(self, event: str) -> sql.Identifier:
        """The name of a trigger function."""
        return sql.Identifier(self.schema, f"capture{self.number:04d}_{event}")


def captured(tables: Sequence[TablePlan], schema: str) -> tuple[Captured, ...]:
    """One per source table with a key; all target tables of a split share it."""
    found: dict[TableRef, Captured] = {}
    for table in tables:
        if table.key and table.source not in found:
            found[table.source] = Captured(table.number, table.source, table.key, schema)
    return tuple(found.values())


def kind(tx: Transaction, item: Captured) -> str:
    """``row`` or ``statement``: the level of the triggers that capture every change of the table."""
    row = tx.pg.execute(
        "SELECT c.relkind = 'p' OR EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (item.table.schema, item.table.name),
    ).fetchone()
    return "row" if row is not None and row[0] else "statement"


def installed(tx: Transaction, item: Captured) -> bool:
    """Whether the table is captured; log, functions and triggers are created in one commit."""
    row = tx.pg.execute("SELECT to_regclass(%s)", (item.log.as_string(tx.pg),)).fetchone()
    return row is not None and row[0] is not None


def install(tx: Transaction, planned: Captured) -> None:
    """Create log, functions and triggers, and record their fingerprint.

    It has to be committed before the first row is read: CREATE TRIGGER waits for every transaction that has written to
    the table, and later writes are logged (I-4.2).
    """
    item = replace(planned, layouts=_layouts(tx, planned))
    columns = [sql.SQL("{} {}").format(sql.Identifier(f"k{i}"), raw(k.source_type)) for i, k in enumerate(item.key, 1)]
    tx.pg.execute(_template("log_table").format(log=item.log, key=sql.SQL(", ").join(columns)))
    partitions = run_triggers.partitions(tx, item.table)
    tx.pg.execute(sql.SQL(";\n").join(_statements(item, kind(tx, item), partitions)))
    # The triggers' lock is held and no row has been read: a rewrite of the table before this moment has lost nothing.
    for ref in (item.table, *partitions):
        name = sql.Literal(ref.identifier.as_string(tx.pg))
        tx.pg.execute(_template("record_storage").format(storage=item.storage, table=name))
    tables = fingerprint.oids(tx, [item.table])
    fingerprint.record(tx, item.schema, tables, (fingerprint.CAPTURE, fingerprint.SUBSCRIPTIONS))


def intact(tx: Transaction, items: Sequence[Captured]) -> set[TableRef]:
    """The tables whose capture is as it was installed, and was not disabled since: a few queries for all of them."""
    if not items:
        return set()
    logs = tx.pg.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s))", (items[0].schema,)
    ).fetchall()
    logged = {name for (name,) in logs}
    kinds = (fingerprint.CAPTURE, fingerprint.SUBSCRIPTIONS)
    known = fingerprint.recorded(tx, items[0].schema, fingerprint.CAPTURE)
    changed = {c.table for c in fingerprint.changes(tx, items[0].schema, kinds, [i.table for i in items])}
    return {
        item.table for item in items if item.log_name in logged and item.table in known and item.table not in changed
    }


def is_intact(tx: Transaction, item: Captured) -> bool:
    """Whether capture is as it was installed, and was not disabled since, even for a moment."""
    kinds = (fingerprint.CAPTURE, fingerprint.SUBSCRIPTIONS)
    return installed(tx, item) and not fingerprint.changes(tx, item.schema, kinds, [item.table])


def _layouts(tx: Transaction, item: Captured) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """The positions of the key's columns in the table and in its partitions, which may order their columns differently.

    Dropped columns are not counted, as in a list of column aliases.
    """
    rows = tx.pg.execute(
        # The array lets the server find the columns by an index, however many tables there are.
        "WITH m AS (SELECT %(table)s::regclass AS relid, 0 AS level"
        "           UNION SELECT relid, level FROM pg_partition_tree(%(table)s::regclass))"
        " SELECT m.relid::oid::bigint, a.attname, row_number() OVER (PARTITION BY m.relid ORDER BY a.attnum)"
        " FROM m JOIN pg_attribute a ON a.attrelid = m.relid AND a.attnum > 0 AND NOT a.attisdropped"
        " WHERE a.attrelid = ANY (ARRAY(SELECT relid::oid FROM m)) ORDER BY m.level, m.relid",
        {"table": item.source.as_string(tx.pg)},
    ).fetchall()
    places: dict[int, dict[str, int]] = {}
    for oid, name, place in rows:
        places.setdefault(oid, {})[name] = place
    found: dict[tuple[int, ...], list[int]] = {}
    for oid, place in places.items():
        found.setdefault(tuple(place[k.source] for k in item.key), []).append(oid)
    return tuple((positions, tuple(oids)) for positions, oids in found.items())


def _statements(item: Captured, how: str, partitions: Sequence[TableRef]) -> Iterator[sql.Composed]:
    if how == "row":
        yield _function(item, "row", _row_body(item))
        yield from _trigger(item, "row", "row_trigger", item.source)
    else:
        yield from _on_statements(item)
        yield from _on_changed_key(item)
    yield _function(item, "truncate", _template("log_truncate").format(log=item.log, storage=item.storage))
    for ref in (item.table, *partitions):
        yield from _trigger(item, "truncate", "truncate_trigger", ref.identifier)


def _on_statements(item: Captured) -> Iterator[sql.Composed]:
    """The keys that the rows of a statement have now, or had before their deletion."""
    for event, version in (("insert", "new"), ("delete", "old"), ("update", "new")):
        rows = sql.Identifier(f"confiture_{version}")
        yield _function(item, event, _log_keys(item, item.keys_from(rows)))
        holes = {"operation": sql.SQL(event.upper()), "version": sql.SQL(version.upper()), "rows": rows}
        yield from _trigger(item, event, "statement_trigger", item.source, **holes)


def _on_changed_key(item: Captured) -> Iterator[sql.Composed]:
    """The key that a row had before, where an UPDATE changed it: row by row."""
    yield _function(item, "key", _log_keys(item, item.keys_from(_OLD_ROW)))
    keys = {"old_key": item.columns("old"), "new_key": item.columns("new")}
    yield from _trigger(item, "key", "key_trigger", item.source, **keys)


#: The row variables as relations.
_OLD_ROW, _NEW_ROW = sql.SQL("(SELECT OLD.*)"), sql.SQL("(SELECT NEW.*)")


def _row_body(item: Captured) -> sql.Composed:
    """The old and the new key of a row, for each order of columns that the table and its partitions have."""
    body = _log_row(item, 0)
    for layout in range(1, len(item.layouts)):
        partitions = sql.SQL(", ").join(map(sql.Literal, item.layouts[layout][1]))
        body = _template("log_row_of").format(partitions=partitions, statements=_log_row(item, layout), otherwise=body)
    return body


def _log_row(item: Captured, layout: int) -> sql.Composed:
    old, new = item.keys_from(_OLD_ROW, layout), item.keys_from(_NEW_ROW, layout)
    return _template("log_row").format(log=item.log, log_key=item.log_key, old_key=old, new_key=new)


def _log_keys(item: Captured, keys: sql.Composed) -> sql.Composed:
    return _template("log_keys").format(log=item.log, log_key=item.log_key, keys=keys)


def _function(item: Captured, event: str, statements: sql.Composed) -> sql.Composed:
    return _template("function").format(function=item.function(event), statements=statements)


def _trigger(
    item: Captured, event: str, block: str, table: sql.Identifier, **holes: sql.Composable
) -> Iterator[sql.Composed]:
    """One trigger that calls the function of ``event`` and fires always; ``holes`` are those of its own block."""
    yield _template(block).format(
        trigger=item.trigger(event),
        table=table,
        setting=sql.Literal(WRITER),
        writer=sql.Literal(item.schema),
        function=item.function(event),
        **holes,
    )
    yield _template("always").format(table=table, trigger=item.trigger(event))


def remove(tx: Transaction, item: Captured) -> None:
    """Drop the triggers wherever they are now, the functions and the log; harmless to repeat."""
    if not installed(tx, item):
        return
    for trigger in run_triggers.find(tx, item.schema, f"capture{item.number:04d}\\_%"):
        run_triggers.drop(tx, trigger)
    for event in EVENTS:
        tx.pg.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(item.function(event)))
    tx.pg.execute(sql.SQL("DROP TABLE {}").format(item.log))
    fingerprint.discard(tx, item.schema, [item.table], (fingerprint.CAPTURE, fingerprint.SUBSCRIPTIONS))


def pending(tx: Transaction, items: Sequence[Captured]) -> dict[int, int]:
    """The tables whose logs hold rows in the transaction's snapshot, by number, with the bytes of the log.

    These are two queries for all of them.

    A log without a page is empty, because a file grows before a row in it is visible. Only the other logs are read:
    planning a query over a thousand logs would exceed the write pause.
    """
    by_name = {item.log_name: item for item in items}
    written = tx.pg.execute(
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s))"
        " AND relname = ANY (%s) AND pg_relation_size(oid) > 0",
        (items[0].schema if items else "", list(by_name)),
    ).fetchall()
    grown = {by_name[name]: size for name, size in written}
    parts = [
        sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(item.number), item.log) for item in grown
    ]
    if not parts:
        return {}
    found = {row[0] for row in tx.pg.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()}
    return {item.number: size for item, size in grown.items() if item.number in found}


def log_rows(tx: Transaction, items: Sequence[Captured]) -> dict[int, int]:
    """The number of log rows of each table, by the number of the table; one table at least."""
    parts = [sql.SQL("SELECT {}, count(*) FROM {}").format(sql.Literal(item.number), item.log) for item in items]
    return dict(tx.pg.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall())


def waiting(tx: Transaction, items: Sequence[Captured], most: int) -> int:
    """Log rows of all tables, counted up to one more than ``most`` in each of them."""
    parts = [
        sql.SQL("SELECT count(*) AS n FROM (SELECT FROM {} LIMIT {}) l").format(item.log, sql.Literal(most + 1))
        for item in items
    ]
    if not parts:
        return 0
    query = sql.SQL("SELECT sum(n)::bigint FROM ({}) w").format(sql.SQL(" UNION ALL ").join(parts))
    return int(only_row(tx.pg.execute(query))[0])


def backlog(tx: Transaction, items: Sequence[Captured]) -> tuple[int, float]:
    """Log rows of all tables, and the age in seconds of the oldest by the source's clock."""
    if not items:
        return 0, 0.0
    parts = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT count(*) AS n, min(at) AS at FROM {}").format(item.log) for item in items
    )
    query = sql.SQL(
        "SELECT sum(n)::bigint, coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0) FROM ({}) l"
    ).format(parts)
    rows, oldest = only_row(tx.pg.execute(query))
    return int(rows), float(oldest)
