"""The fingerprint: the facts that the meaning of a table's rows depends on, as recorded and as they are now.

Each database holds the fingerprint of its own tables in the run's schema, so that a fingerprint and the objects that it
describes change in one commit. Tables are known by OID: a table that takes another one's name is another table. Every
transaction that reads or writes rows compares the fingerprint in its own snapshot (docs/invariants.md, I-2.1, I-2.2 and
I-2.4).
https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

import psycopg
from psycopg import sql

from confiture.errors import Blocked
from confiture.journal import source
from confiture.postgres.session import Session, Transaction
from confiture.sql import load
from confiture.types import TableRef, shell_word

#: Kinds of facts. ``key`` covers the unique indexes that existed when it was recorded.
TABLE: Final = "table"
COLUMNS: Final = "columns"
KEY: Final = "key"
STORAGE: Final = "storage"
PARTITIONS: Final = "partitions"
DEFINITIONS: Final = "definitions"
RULES: Final = "rules"
TRIGGERS: Final = "triggers"
FOREIGN_KEYS: Final = "foreign keys"
CAPTURE: Final = "capture"
SUBSCRIPTIONS: Final = "subscriptions"
WRITE_BLOCK: Final = "write block"
TABLES: Final = "tables"
LARGE_OBJECTS: Final = "large objects"

#: Kinds that the meaning and the completeness of rows depend on, on the side that rows are read from.
MEANING: Final = (TABLE, COLUMNS, KEY, PARTITIONS, DEFINITIONS, RULES, TRIGGERS)
#: Kinds that act on rows that are written, on the side that passes are applied to.
APPLIED: Final = (*MEANING, FOREIGN_KEYS)
#: The set of tables, and of large objects.
DATABASE: Final = (TABLES, LARGE_OBJECTS)
#: Every fact whose change may leave writes unlogged.
CAPTURED: Final = (*MEANING, STORAGE, CAPTURE, SUBSCRIPTIONS)

#: Kinds that must not change in a table of the target while its changes are applied to the source.
READ_IN_REVERSE: Final = (TABLE, COLUMNS, KEY, PARTITIONS, DEFINITIONS, CAPTURE, SUBSCRIPTIONS)

#: Every kind.
ALL: Final = (*CAPTURED, FOREIGN_KEYS, WRITE_BLOCK, *DATABASE)
#: The blocks of SQL that return several kinds; each other kind has a block of its own name.
_BLOCKS: Final = dict.fromkeys((TRIGGERS, CAPTURE, WRITE_BLOCK), "trigger_aspects")

#: The pseudo table of facts about the whole database.
_DATABASE_OID = 0
#: How the queries name the OIDs of the tables.
_ROOTS = "%(roots)s::oid[]"
_VERSION = re.compile(r" \(version [\d.]+\)")

Facts = Mapping[tuple[int, str], str]


@dataclass(frozen=True, slots=True)
class Change:
    """One aspect of one table that differs from what was recorded.

    :ivar table: None for the database as a whole.
    :ivar was: lines that are gone, ``now``: lines that are new; both empty only if the version alone differs.
    """

    table: TableRef | None
    kind: str
    was: tuple[str, ...]
    now: tuple[str, ...]

    def __str__(self) -> str:
        was, now = (tuple(_VERSION.sub("", line) for line in lines) for lines in (self.was, self.now))
        if was == now:
            return f"{_some(now)}: was replaced, or disabled and enabled again"
        if self.table is not None and self.kind == TABLE and not now:
            return f"was {_some(was)}; it was dropped"
        gone = _some([line for line in was if line not in now])
        new = _some([line for line in now if line not in was])
        return f"was {gone or 'without it'}, is {new or 'gone'}" if gone else f"is new: {new}"


#: Lines of a change that an error shows.
_SHOWN = 2


def _some(lines: Sequence[str]) -> str:
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


@cache
def _query(block: str) -> str:
    return load("fingerprint.sql")[block].decode()


@cache
def facts_query(kinds: tuple[str, ...]) -> str:
    """The query for some kinds of facts. The fewer they are, the less the server has to plan and to read."""
    blocks = dict.fromkeys(_BLOCKS.get(kind, kind.replace(" ", "_")) for kind in kinds)
    return _query("facts") + "\n" + "\nUNION ALL\n".join(_query(block) for block in blocks)


def _recorded(schema: str) -> sql.Identifier:
    return source.table(schema, "fingerprint")


def oids(tx: Transaction, tables: Iterable[TableRef]) -> dict[TableRef, int]:
    """The OID of each table that exists."""
    refs = list(dict.fromkeys(tables))
    rows = tx.pg.execute(
        "SELECT n.nspname, c.relname, c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN unnest(%s::text[], %s::text[]) w(schema, name) ON (w.schema, w.name) = (n.nspname, c.relname)",
        ([r.schema for r in refs], [r.name for r in refs]),
    ).fetchall()
    return {TableRef(schema, name): oid for schema, name, oid in rows}


def roots_of(tx: Transaction, tables: Iterable[TableRef]) -> dict[TableRef, int]:
    """Of each table that exists, itself or the topmost table that it is a partition of, with its OID."""
    found = oids(tx, tables)
    rows = tx.pg.execute(
        "SELECT DISTINCT n.nspname, c.relname, c.oid::bigint FROM unnest(%s::oid[]) w(oid)"
        " JOIN pg_class c ON c.oid = coalesce(pg_partition_root(w.oid), w.oid)"
        " JOIN pg_namespace n ON n.oid = c.relnamespace",
        (list(found.values()),),
    ).fetchall()
    return {TableRef(schema, name): oid for schema, name, oid in rows}


def facts(tx: Transaction, schema: str, roots: Sequence[int], kinds: Sequence[str] = ALL) -> dict[tuple[int, str], str]:
    """The facts of some tables and of the database, in this transaction's snapshot.

    :param schema: the run's own; it need not exist yet.
    :param roots: OIDs of tables; a partitioned table stands for its partitions.
    :param kinds: the kinds to read; further kinds may be among the result.
    """
    rows = tx.pg.execute(facts_query(tuple(kinds)), {"schema": schema, "roots": list(roots)}).fetchall()
    return {(root, aspect): fact or "" for root, aspect, fact in rows}


def record(
    tx: Transaction, schema: str, tables: Mapping[TableRef, int], kinds: Sequence[str], found: Facts | None = None
) -> None:
    """Record some kinds of facts, which hold from this transaction's commit on.

    :param tables: the tables; kinds of the whole database are recorded whatever tables are given.
    :param found: facts that were read before; None to read them now.
    """
    taken = facts(tx, schema, list(tables.values()), kinds) if found is None else found
    refs = {oid: ref for ref, oid in tables.items()}
    discard(tx, schema, tables, kinds)
    rows = [
        (root, aspect, kind, ref.schema, ref.name, taken.get((root, aspect), ""))
        for root, ref in [*refs.items(), (_DATABASE_OID, TableRef("", ""))]
        for kind in kinds
        if (kind in DATABASE) == (root == _DATABASE_OID)
        for aspect in ([a for r, a in taken if r == root and a.startswith("key ")] if kind == KEY else [kind])
    ]
    columns = ([row[n] for row in rows] for n in range(6))
    statement = sql.SQL(
        "INSERT INTO {} SELECT * FROM unnest(%s::oid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"
    )
    tx.pg.execute(statement.format(_recorded(schema)), tuple(columns))


_AMONG = "(schema_name, table_name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"


def discard(tx: Transaction, schema: str, tables: Iterable[TableRef], kinds: Sequence[str]) -> None:
    """Drop recorded facts of some tables and of the database: a fact that is not recorded is not compared."""
    refs = [TableRef("", ""), *tables]  # the database's own facts have no table
    statement = sql.SQL("DELETE FROM {} WHERE kind = ANY (%s) AND " + _AMONG)
    values = (list(kinds), [r.schema for r in refs], [r.name for r in refs])
    tx.pg.execute(statement.format(_recorded(schema)), values)


def keep_only(tx: Transaction, schema: str, tables: Iterable[TableRef]) -> None:
    """Drop the recorded facts of every other table."""
    refs = list(tables)
    statement = sql.SQL("DELETE FROM {} WHERE root <> 0 AND NOT " + _AMONG)
    tx.pg.execute(statement.format(_recorded(schema)), ([r.schema for r in refs], [r.name for r in refs]))


def recorded(tx: Transaction, schema: str, kind: str) -> dict[TableRef, int]:
    """The tables that have recorded facts of a kind, with their OIDs."""
    statement = sql.SQL("SELECT DISTINCT schema_name, table_name, root::bigint FROM {} WHERE kind = %s")
    rows = tx.pg.execute(statement.format(_recorded(schema)), (kind,)).fetchall()
    return {TableRef(schema_name, name): root for schema_name, name, root in rows}


def of_database(tx: Transaction, schema: str) -> dict[str, str] | None:
    """The recorded facts of the database as a whole by kind; None where this database has no fingerprint."""
    row = tx.pg.execute("SELECT to_regclass(quote_ident(%s) || '.fingerprint')", (schema,)).fetchone()
    if row is None or row[0] is None:
        return None
    statement = sql.SQL("SELECT kind, fact FROM {} WHERE root = 0").format(_recorded(schema))
    return dict(tx.pg.execute(statement).fetchall())


def changes(
    tx: Transaction, schema: str, kinds: Sequence[str], tables: Sequence[TableRef] | None = None
) -> list[Change]:
    """The facts that differ from the recorded ones, in this transaction's snapshot: one query for any number of tables.

    A new storage that a captured TRUNCATE created is no change.

    :param tx: READ COMMITTED, or a transaction that locked the tables before its snapshot. The storage of a table is
        its current one; an older snapshot does not have the log of the TRUNCATE that created it.
    :param tables: only these; None for every recorded table.
    """
    found = _compared(tx, schema, kinds, tables)
    if any(c.kind == STORAGE for c in found):
        truncated = source.storages(tx, schema)
        found = [c for c in found if c.kind != STORAGE or not _is_truncated(c, truncated)]
    # Of a table that was dropped every other fact is gone too.
    dropped = {c.table for c in found if c.kind == TABLE and not c.now}
    return [c for c in found if c.table not in dropped or c.kind == TABLE]


def _compared(tx: Transaction, schema: str, kinds: Sequence[str], tables: Sequence[TableRef] | None) -> list[Change]:
    """Compare the facts, and definitions only where some are recorded: to read them costs as much as all other kinds.

    A table without recorded definitions depends on none while its columns are the recorded ones: the run's views change
    only together with their record.
    """
    if DEFINITIONS not in kinds or COLUMNS not in kinds:
        return _differing(tx, schema, kinds, kinds, tables)
    others = [kind for kind in kinds if kind != DEFINITIONS]
    found = _differing(tx, schema, kinds, others, tables)
    described = [c.table for c in found if c.kind == DEFINITIONS and c.table is not None]
    if not described:
        return found
    changed = {c.table: c for c in _differing(tx, schema, [DEFINITIONS], [DEFINITIONS], described)}
    return [
        changed[c.table] if c.kind == DEFINITIONS else c for c in found if c.kind != DEFINITIONS or c.table in changed
    ]


def _differing(
    tx: Transaction, schema: str, kinds: Sequence[str], read: Sequence[str], tables: Sequence[TableRef] | None
) -> list[Change]:
    """The recorded facts of ``kinds`` that differ from those of ``read``. A recorded fact of another kind differs."""
    names = sql.SQL("SELECT root FROM {} WHERE root <> 0").format(_recorded(schema))
    values: dict[str, object] = {"schema": schema, "kinds": list(kinds)}
    if tables is not None:
        names += sql.SQL(
            " AND (schema_name, table_name) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))"
        )
        values |= {"schemas": [t.schema for t in tables], "names": [t.name for t in tables]}
    roots = sql.SQL("ARRAY({})").format(names)
    text = sql.SQL("WITH facts (root, aspect, fact) AS MATERIALIZED (\n{}\n) {}").format(
        sql.SQL(_escaped(facts_query(tuple(read))).replace(_ROOTS, "{roots}")).format(roots=roots),
        sql.SQL(_query("changes").replace(_ROOTS, "{roots}")).format(recorded=_recorded(schema), roots=roots),
    )
    rows = tx.pg.execute(text, values).fetchall()
    return [_change(*row) for row in rows]


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _change(root: int, schema_name: str, name: str, aspect: str, was: str, now: str) -> Change:
    before, after = was.splitlines(), now.splitlines()
    table = TableRef(schema_name, name) if root else None
    gone = tuple(line for line in before if line not in after)
    new = tuple(line for line in after if line not in before)
    return Change(table, aspect.split()[0] if aspect.startswith("key ") else aspect, gone, new)


def _is_truncated(change: Change, storages: set[str]) -> bool:
    """Whether a captured TRUNCATE created each new storage: any other rewrite is not in the log."""
    return len(change.was) == len(change.now) and all(line.rsplit(" ", 1)[1] in storages for line in change.now)


def refuse_changed(
    tx: Transaction, schema: str, side: str, kinds: Sequence[str], tables: Sequence[TableRef] | None = None
) -> None:
    """Compare the fingerprint in this transaction's snapshot.

    :param side: ``source`` or ``target``, for the message.
    :raises Blocked: naming each object, what it was, what it is, and the command that continues.
    """
    found = changes(tx, schema, kinds, tables)
    if found:
        raise blocked(found, side)


def refuse_unreadable(
    tx: Transaction,
    schema: str,
    side: str,
    tables: Sequence[TableRef],
) -> None:
    """Compare the facts that the rows of some tables depend on, on the side where they are read.

    :param side: ``source``, or ``target`` for what is applied in reverse after the cutover: the reverse views do not
        read a column that is new there.
    :raises Blocked: as :func:`refuse_changed`.
    """
    if side == "source":
        refuse_changed(tx, schema, side, CAPTURED, tables)
        return
    found = [c for c in changes(tx, schema, READ_IN_REVERSE, tables) if c.kind != COLUMNS or c.was]
    if found:
        raise Blocked(
            f"table {found[0].table} of the target was changed since the cutover",
            why=f"{found[0]}; rows written there since may not be logged",
            fix="undo the change if no row was written since; otherwise rollback is no longer possible",
        )


@contextmanager
def naming_gone(session: Session, schema: str, side: str, tables: Sequence[TableRef] | None = None) -> Iterator[None]:
    """Where a table no longer exists under its name, report how it was changed.

    :raises Blocked: in place of the server's error about the name.
    """
    try:
        yield
    except psycopg.errors.UndefinedTable:
        with session.transaction(read_only=True) as tx:
            refuse_changed(tx, schema, side, CAPTURED, tables)
        raise


#: The fix for a change that has to be undone by hand.
_UNDO = "drop or disable it until the cutover is done, then run the same command again"


def blocked(found: Sequence[Change], side: str) -> Blocked:
    """The error for some changes of one database."""
    first = next((c for c in found if c.table is not None), found[0])
    why = "; ".join(f"{c.table or 'the database'}: {c}" for c in found[:2]) + ("; and more" if len(found) > 2 else "")
    if first.kind == TABLES:
        return Blocked(
            f"the set of the {side}'s tables was changed during the run",
            why=why,
            fix="a new table is not in the target: drop it, or name it under $omit, and give the mapping again",
            step="migrate --mapping FILE",
        )
    if first.kind == LARGE_OBJECTS:
        return Blocked(
            f"the {side} has large objects now",
            why="the mapping does not say whether they are copied",
            fix="write `$large_objects: copy` or `leave` into the mapping and give the mapping again, or delete them",
            step="migrate --mapping FILE",
        )
    what = f"{side} table {first.table} was changed during the run"
    if side == "target" and first.kind in (TRIGGERS, RULES, FOREIGN_KEYS):
        return Blocked(what, why=f"the object would act on the rows that are applied: {why}", fix=_UNDO)
    if side == "source" and all(c.kind == RULES and not c.was for c in found):
        # Capture logs what such a rule writes, so that no row is lost.
        return Blocked(what, why=why, fix="drop or disable it, then run the same command; create it after the cutover")
    if side == "target" and first.kind in (STORAGE, WRITE_BLOCK):
        fix = "rows may have changed unnoticed: compare every row again"
        return Blocked(what, why=why, fix=fix, step="verify --again")
    tables = dict.fromkeys(str(c.table) for c in found if c.table is not None)
    if first.kind == TABLE and not first.now:
        return Blocked(
            what,
            why=why,
            fix="remove the table from the mapping, and give the mapping again",
            step=f"migrate --mapping FILE --restart-table {shell_word(str(first.table))}",
        )
    steps = " ".join(f"--restart-table {shell_word(t)}" for t in tables)
    return Blocked(
        what,
        why=why,
        fix="undo the change only if no row was written since; otherwise copy the table again",
        step=f"migrate {steps}",
        restart=tuple(tables),
    )
