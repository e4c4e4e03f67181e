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
from confiture.journal import source
from confiture.plan.planner import KeyColumn, TablePlan
from confiture.plan.projection import raw
from confiture.postgres.profile import WRITER
from confiture.postgres.session import Transaction
from confiture.types import TableRef

#: Names of triggers: of statements, of rows whose key changed, of rows where statements do not do.
EVENTS = ("insert", "update", "delete", "key", "row", "truncate")
#: A partitioned table itself has none.


@dataclass(frozen=True, slots=True)
class Captured:
    """A source table whose changes are logged.

    :ivar number: names its log table and its functions.
    :ivar key: the walk key, which every target of the table shares.
    :ivar schema: the run's own.
    :ivar layouts: where the key's columns stand among the columns, from 1, with the OIDs of the partitions that have
        them there; the table itself comes first. Empty until :func:`install` has looked.
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
        return sql.Identifier(self.table.schema, self.table.name)

    def keys_from(self, rows: sql.Composable, layout: int = 0) -> sql.Composed:
        """A SELECT of the key from a relation with the table's columns, which are named by position.

        A function that named them as the table does would fail, and every write of the application with it, once the
        application renames a column of the key.
        """
        positions, _ = self.layouts[layout]
        names = [sql.Identifier(f"c{n}") for n in range(1, max(positions) + 1)]
        key = sql.SQL(", ").join(names[p - 1] for p in positions)
        return sql.SQL("SELECT {} FROM {} AS t({})").format(key, rows, sql.SQL(", ").join(names))

    def columns(self, alias: str) -> sql.Composed:
        """The key's columns of OLD or NEW in a trigger's condition, which the server stores by number."""
        return sql.SQL(", ").join(sql.Identifier(alias, k.source) for k in self.key)

    @property
    def storage(self) -> sql.Identifier:
        """Where the storage is written down that a table had when capture began, and that each TRUNCATE gave it."""
        return source.table(self.schema, "storage")

    def trigger(self, event: str) -> sql.Identifier:
        """The name of a trigger; it sorts behind the user's own."""
        return sql.Identifier(f"zz_{self.schema}_{event}")

    def function(self, event: str) -> sql.Identifier:
        """The name of a trigger function."""
        return sql.Identifier(self.schema, f"capture{self.number:04d}_{event}")


def captured(tables: Sequence[TablePlan], schema: str) -> tuple[Captured, ...]:
    """One per table the rows come from that has a key; a split's targets share it."""
    found: dict[TableRef, Captured] = {}
    for table in tables:
        if table.key and table.source not in found:
            found[table.source] = Captured(table.number, table.source, table.key, schema)
    return tuple(found.values())


def kind(tx: Transaction, item: Captured) -> str:
    """``row`` or ``statement``: how the table's changes have to be caught."""
    row = tx.pg.execute(
        "SELECT c.relkind = 'p' OR EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (item.table.schema, item.table.name),
    ).fetchone()
    return "row" if row is not None and row[0] else "statement"


def installed(tx: Transaction, item: Captured) -> bool:
    """Whether the table's capture is there; log, functions and triggers come in one commit."""
    row = tx.pg.execute("SELECT to_regclass(%s)", (item.log.as_string(tx.pg),)).fetchone()
    return row is not None and row[0] is not None


def install(tx: Transaction, planned: Captured) -> None:
    """Create log, functions and triggers, and record their fingerprint. CREATE TRIGGER waits for writers under way.

    Committed before the first row is read, it leaves no write unseen: a writer that began earlier is
    waited for, one that begins later is logged (I-4.2).
    """
    item = replace(planned, layouts=_layouts(tx, planned))
    columns = [sql.SQL("{} {}").format(sql.Identifier(f"k{i}"), raw(k.source_type)) for i, k in enumerate(item.key, 1)]
    # No index: keeping one took as long as writing the log. The replica identity lets its rows be deleted
    # where a publication is FOR ALL TABLES (I-4.10).
    tx.pg.execute(
        sql.SQL(
            "CREATE TABLE {log} ({key}, truncated boolean NOT NULL DEFAULT false,"
            " at timestamptz NOT NULL DEFAULT now()); ALTER TABLE {log} REPLICA IDENTITY FULL"
        ).format(log=item.log, key=sql.SQL(", ").join(columns))
    )
    partitions = _partitions(tx, item)
    for statement in _statements(item, kind(tx, item), partitions):
        tx.pg.execute(statement)
    # Nothing is read before: what gave the table new storage until now, under the triggers' lock, has lost nothing.
    for ref in (item.table, *partitions):
        source.add_storage(tx, item.schema, ref)
    tables = fingerprint.oids(tx, [item.table])
    fingerprint.record(tx, item.schema, tables, (fingerprint.CAPTURE, fingerprint.SUBSCRIPTIONS))


def is_intact(tx: Transaction, item: Captured) -> bool:
    """Whether the table's capture is there as it was installed: not even disabled for a moment."""
    kinds = (fingerprint.CAPTURE, fingerprint.SUBSCRIPTIONS)
    return installed(tx, item) and not fingerprint.changes(tx, item.schema, kinds, [item.table])


def _layouts(tx: Transaction, item: Captured) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Where the key stands in the table and in its partitions, which may order their columns otherwise.

    Columns that were dropped do not count, as they do not in a list of aliases.
    """
    rows = tx.pg.execute(
        "SELECT m.relid::oid::bigint, a.attname, row_number() OVER (PARTITION BY m.relid ORDER BY a.attnum)"
        " FROM (SELECT %(table)s::regclass AS relid, 0 AS level"
        "       UNION SELECT relid, level FROM pg_partition_tree(%(table)s::regclass)) m"
        " JOIN pg_attribute a ON a.attrelid = m.relid AND a.attnum > 0 AND NOT a.attisdropped"
        " ORDER BY m.level, m.relid",
        {"table": item.source.as_string(tx.pg)},
    ).fetchall()
    places: dict[int, dict[str, int]] = {}
    for oid, name, place in rows:
        places.setdefault(oid, {})[name] = place
    found: dict[tuple[int, ...], list[int]] = {}
    for oid, place in places.items():
        found.setdefault(tuple(place[k.source] for k in item.key), []).append(oid)
    return tuple((positions, tuple(oids)) for positions, oids in found.items())


def _partitions(tx: Transaction, item: Captured) -> list[TableRef]:
    """Every partition below the root: TRUNCATE triggers are not cloned."""
    rows = tx.pg.execute(
        "SELECT n.nspname, c.relname FROM pg_partition_tree(%s::regclass) t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.level > 0",
        (item.source.as_string(tx.pg),),
    ).fetchall()
    return [TableRef(*row) for row in rows]


def _statements(item: Captured, how: str, partitions: Sequence[TableRef]) -> Iterator[sql.Composed]:
    if how == "row":
        yield _function(item, "row", _row_body(item))
        yield _trigger(item, "row", sql.SQL("AFTER INSERT OR UPDATE OR DELETE"), sql.SQL("FOR EACH ROW"))
        yield _always(item, item.source, "row")
    else:
        for event, tables, body in _events(item):
            yield _function(item, event, body)
            yield _trigger(item, event, sql.SQL("AFTER " + event.upper()), tables + sql.SQL(" FOR EACH STATEMENT"))
            yield _always(item, item.source, event)
        yield from _moved(item)
    # TRUNCATE gives a table new storage; written down, it is told apart from a rewrite that goes unlogged.
    marker = sql.SQL("INSERT INTO {} (truncated) VALUES (true); INSERT INTO {} VALUES (pg_relation_filenode(TG_RELID))")
    yield _function(item, "truncate", marker.format(item.log, item.storage))
    for ref in (item.table, *partitions):
        yield from _on_truncate(item, ref)


def _on_truncate(item: Captured, ref: TableRef) -> Iterator[sql.Composed]:
    name = sql.Identifier(ref.schema, ref.name)
    yield _trigger(item, "truncate", sql.SQL("AFTER TRUNCATE"), sql.SQL("FOR EACH STATEMENT"), name)
    yield _always(item, name, "truncate")


def _events(item: Captured) -> Iterator[tuple[str, sql.Composed, sql.Composed]]:
    new = sql.SQL("REFERENCING NEW TABLE AS confiture_new").format()
    old = sql.SQL("REFERENCING OLD TABLE AS confiture_old").format()
    now = _logged(item, item.keys_from(sql.Identifier("confiture_new")))
    yield "insert", new, now
    yield "delete", old, _logged(item, item.keys_from(sql.Identifier("confiture_old")))
    # The keys that rows have now; those they had before, where they differ, are logged row by row.
    yield "update", new, now


def _moved(item: Captured) -> Iterator[sql.Composed]:
    """The old key of a row whose key changed. Nearly no update changes one: comparing both sides of every
    statement took as long as logging it."""
    yield _function(item, "key", _logged(item, item.keys_from(_OLD_ROW)))
    differs = sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(item.columns("old"), item.columns("new"))
    yield _trigger(item, "key", sql.SQL("AFTER UPDATE"), sql.SQL("FOR EACH ROW"), only=differs)
    yield _always(item, item.source, "key")


def _logged(item: Captured, query: sql.Composed) -> sql.Composed:
    return sql.SQL("INSERT INTO {} ({}) {}").format(item.log, item.log_key, query)


#: The row variables as relations.
_OLD_ROW, _NEW_ROW = sql.SQL("(SELECT OLD.*)"), sql.SQL("(SELECT NEW.*)")


def _row_body(item: Captured) -> sql.Composed:
    """The old and the new key of a row; one that did not change is logged once.

    The function runs for each partition with the partition's own order of columns.
    """
    body = _row_logged(item, 0)
    for number in range(1, len(item.layouts)):
        members = sql.SQL(", ").join(map(sql.Literal, item.layouts[number][1]))
        body = sql.SQL("IF TG_RELID IN ({}) THEN {}; ELSE {}; END IF").format(members, _row_logged(item, number), body)
    return body


def _row_logged(item: Captured, layout: int) -> sql.Composed:
    old, new = item.keys_from(_OLD_ROW, layout), item.keys_from(_NEW_ROW, layout)
    return sql.SQL("IF TG_OP = 'INSERT' THEN {}; ELSIF TG_OP = 'DELETE' THEN {}; ELSE {} UNION {}; END IF").format(
        _logged(item, new), _logged(item, old), _logged(item, old), new
    )


def _function(item: Captured, event: str, body: sql.Composed) -> sql.Composed:
    """Runs with our rights, because application roles have none on our schema; and nobody may call it (I-4.9)."""
    text = sql.SQL("BEGIN {}; RETURN NULL; END").format(body)
    return sql.SQL(
        "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp AS {body}; REVOKE ALL ON FUNCTION {name}() FROM PUBLIC"
    ).format(name=item.function(event), body=sql.Literal(text.as_string()))


def _trigger(
    item: Captured,
    event: str,
    when: sql.Composable,
    how: sql.Composable,
    table: sql.Identifier | None = None,
    only: sql.Composable | None = None,
) -> sql.Composed:
    return sql.SQL(
        "CREATE TRIGGER {} {} ON {} {}"
        " WHEN ({} AND pg_catalog.current_setting({}, true) IS DISTINCT FROM {}) EXECUTE FUNCTION {}()"
    ).format(
        item.trigger(event),
        when,
        table or item.source,
        how,
        only or sql.SQL("true"),
        sql.Literal(WRITER),
        sql.Literal(item.schema),
        item.function(event),
    )


def _always(item: Captured, table: sql.Identifier, event: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(table, item.trigger(event))


def remove(tx: Transaction, item: Captured) -> None:
    """Drop triggers, functions and log; nothing to do when they are gone.

    Triggers are found by their function: a table may have been renamed, and a partition that was detached keeps its
    own. A trigger that a partition inherits is dropped with its root's.
    """
    if not installed(tx, item):
        return
    rows = tx.pg.execute(
        "SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE t.tgparentid = 0 AND p.pronamespace = to_regnamespace(quote_ident(%s)) AND p.proname LIKE %s",
        (item.schema, f"capture{item.number:04d}\\_%"),
    ).fetchall()
    for schema, table, trigger in rows:
        name = sql.Identifier(schema, table)
        tx.pg.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), name))
    for event in EVENTS:
        tx.pg.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(item.function(event)))
    tx.pg.execute(sql.SQL("DROP TABLE {}").format(item.log))
    fingerprint.forget(tx, item.schema, [item.table], (fingerprint.CAPTURE, fingerprint.SUBSCRIPTIONS))


def pending(tx: Transaction, items: Sequence[Captured]) -> set[int]:
    """The numbers of the tables whose logs hold rows, in the transaction's snapshot: two queries for all of them.

    A file has grown before a row in it can be visible, so a log without a page is empty. Only the others are read: to
    plan a query of a thousand logs takes longer than a write pause may.
    """
    by_name = {item.log_name: item for item in items}
    written = tx.pg.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relname = ANY (%s)"
        " AND pg_relation_size(oid) > 0",
        (items[0].schema if items else "", list(by_name)),
    ).fetchall()
    grown = [by_name[name] for (name,) in written]
    parts = [
        sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(item.number), item.log) for item in grown
    ]
    if not parts:
        return set()
    return {row[0] for row in tx.pg.execute(sql.SQL(" UNION ALL ").join(parts)).fetchall()}


def waiting(tx: Transaction, items: Sequence[Captured], most: int) -> int:
    """Log rows of all tables, counted up to one more than ``most`` in each of them."""
    parts = [
        sql.SQL("SELECT count(*) AS n FROM (SELECT FROM {} LIMIT {}) l").format(item.log, sql.Literal(most + 1))
        for item in items
    ]
    if not parts:
        return 0
    row = tx.pg.execute(
        sql.SQL("SELECT sum(n)::bigint FROM ({}) w").format(sql.SQL(" UNION ALL ").join(parts))
    ).fetchone()
    assert row is not None
    return int(row[0])


def backlog(tx: Transaction, items: Sequence[Captured]) -> tuple[int, float]:
    """Log rows of all tables, and the age in seconds of the oldest by the source's clock."""
    if not items:
        return 0, 0.0
    parts = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT count(*) AS n, min(at) AS at FROM {}").format(item.log) for item in items
    )
    row = tx.pg.execute(
        sql.SQL(
            "SELECT sum(n)::bigint, coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0) FROM ({}) l"
        ).format(parts)
    ).fetchone()
    assert row is not None
    return int(row[0]), float(row[1])
