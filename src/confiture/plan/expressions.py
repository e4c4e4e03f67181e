"""The mapping's expressions, analyzed by the source: their types, the columns that they read, their volatility.

Each expression becomes a temporary view in a transaction that is rolled back. It is analyzed by the rule and the
dependencies of the view, not by its text (docs/invariants.md, I-1.5 to I-1.7). Where nothing may be created, not even
a temporary view, the server prepares a statement that contains the expression (I-19.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from confiture.catalog_model import Catalog, Table
from confiture.mapping import Mapping
from confiture.plan import search_path, trust
from confiture.plan.model import Facts, Options, Trusted
from confiture.plan.planner import Planner
from confiture.plan.projection import raw, wire_type
from confiture.postgres.connection import only_row
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.sql import load
from confiture.types import TableRef

#: STABLE functions of pg_catalog whose result depends only on settings that the session profile fixes. A conversion of
#: encodings is found in search_path.
STABLE_ALLOWED = {
    "timezone", "to_char", "to_timestamp", "to_date", "date_trunc", "date_part", "extract", "date", "timestamp",
    "timestamptz", "time", "timetz", "concat", "concat_ws", "format", "to_json", "to_jsonb", "row_to_json",
    "array_to_json", "json_build_object", "json_build_array", "jsonb_build_object", "jsonb_build_array",
    "json_object", "jsonb_object", "array_to_string", "string_to_array", "make_timestamptz", "interval", "text",
    "varchar", "bpchar", "money", "numeric", "quote_literal", "quote_nullable", "to_tsvector", "textanycat",
    "anytextcat", "timestamptz_pl_interval", "timestamptz_mi_interval", "interval_pl_timestamptz",
    "timestamptz_lt_timestamp", "timestamptz_gt_timestamp", "timestamp_lt_timestamptz", "timestamp_gt_timestamptz",
    "date_lt_timestamptz", "date_gt_timestamptz", "timestamptz_lt_date", "timestamptz_gt_date",
    "jsonb_path_query_first_tz", "jsonb_path_exists_tz", "cash_mul_flt8", "numeric_cash", "cash_numeric",
    "int4_cash", "int8_cash", "array_out", "record_out", "enum_out", "byteaout", "json_populate_record",
    "jsonb_populate_record", "xmlcomment", "convert", "convert_from", "convert_to",
}  # fmt: skip


_PROBE = sql.Identifier("pg_temp", "confiture_probe")


def _named(name: str) -> str:
    return load("expressions.sql")[name].decode()


def probe(
    session: Session, source: Catalog, target: Catalog, mapping: Mapping, trusted: Sequence[Trusted] = ()
) -> dict[tuple[TableRef, str, str], Facts]:
    """The facts about every transform and condition, by table, expression and type. Nothing remains in the source.

    :param session: a user-SQL session to the source, so that names resolve as in the operator's own session.
    :param trusted: the functions that the mapping trusts.
    :raises GaveWay: a session of the application waited for a table; the call can be repeated.
    """
    facts: dict[tuple[TableRef, str, str], Facts] = {}
    with yielding(session), session.rehearsal() as tx:
        for table, expression, wire in _expressions(source, target, mapping):
            found = _facts(tx, table, expression, wire, trusted, session.database.search_path)
            facts[(table.ref, expression, wire)] = found
    return facts


def _expressions(source: Catalog, target: Catalog, mapping: Mapping) -> Iterator[tuple[Table, str, str]]:
    names = Planner(source, target, mapping, {}, Options())
    for entry in mapping.tables:
        into = names.find(target, "target", entry.target)
        table = names.source_of(into, entry) if into is not None else None
        if table is None or into is None:
            continue  # reported by the planner
        if entry.where is not None:
            yield table, entry.where, ""
        for item in entry.columns:
            column = into.column(item.target)
            if item.transform is not None and column is not None:
                yield table, item.transform, wire_type(column)[0]


def _facts(
    tx: Transaction, table: Table, expression: str, wire: str, trusted: Sequence[Trusted], path: Sequence[str]
) -> Facts:
    name = table.ref.identifier
    only = sql.SQL("ONLY " if table.only else "")
    if wire:
        query = sql.SQL("SELECT (\n{}\n)::{} AS value FROM {}{}").format(raw(expression), raw(wire), only, name)
    else:
        query = sql.SQL("SELECT 1 AS value FROM {}{} WHERE (\n{}\n)").format(only, name, raw(expression))
    if not table.may_use_schema:
        return Facts()  # the planner refuses the table, naming the GRANT
    try:
        with tx.pg.transaction():
            tx.pg.execute(sql.SQL("CREATE TEMP VIEW confiture_probe AS {}").format(query))
            # For a condition without a scan for rows that satisfy it.
            cast = sql.SQL("::{}").format(raw(wire)) if wire else sql.SQL("")
            values = sql.SQL("SELECT (\n{}\n){} AS value FROM {}{}").format(raw(expression), cast, only, name)
            tx.pg.execute(sql.SQL("CREATE TEMP VIEW confiture_values AS {}").format(values))
            # The expression is resolved. The queries that analyze it must not call functions of an application.
            tx.pg.execute("SET LOCAL search_path = pg_catalog")
            problem = _problem(tx, table)
            foreign = trust.untrusted(tx, [(_PROBE, table.ref)], trusted) if problem is None else []
            reads = _reads(tx, table)
            relying = _relying(tx, path) if problem is None and not foreign else None
            raise psycopg.Rollback()
    except psycopg.errors.QueryCanceled:
        raise  # this says nothing about the expression
    except psycopg.Error as error:
        hint = error.diag.message_hint or ""
        return Facts(problem=(error.diag.message_primary or str(error)).strip(), hint=hint)
    if foreign:
        return Facts(reads=reads, problem="; ".join(map(str, foreign)), hint=foreign[0].hint)
    if relying is not None:
        return Facts(reads=reads, problem=str(relying), hint=relying.fix)
    return Facts(reads=reads, problem=problem)


def problem_of(tx: Transaction, table: Table, expression: str, wire: str) -> Facts:
    """The problem with an expression, found without a temporary view: on a standby, and with SELECT alone.

    The condition WHERE accepts no aggregate, window function or set. The server neither plans nor executes it.

    :param tx: in which names resolve as where the expression is evaluated; a failed statement does not end it.
    :param wire: the type of the value; empty for a condition.
    """
    if wire:
        test = sql.SQL("({}) IS NULL").format(_cast(expression, wire))
    else:
        test = sql.SQL("(\n{}\n)").format(raw(expression))
    only = sql.SQL("ONLY " if table.only else "")
    query = sql.SQL("PREPARE confiture_probe AS SELECT 1 FROM {}{} WHERE {}").format(only, table.ref.identifier, test)
    try:
        with tx.pg.transaction():
            tx.pg.execute(query)
        tx.pg.execute("DEALLOCATE confiture_probe")
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        return Facts(problem=(error.diag.message_primary or str(error)).strip(), hint=error.diag.message_hint or "")
    return Facts()


def _cast(expression: str, wire: str) -> sql.Composed:
    return sql.SQL("(\n{}\n)::{}").format(raw(expression), raw(wire))


def _relying(tx: Transaction, path: Sequence[str]) -> search_path.Relying | None:
    """The part of the expression that relies on search_path. It is evaluated for a few rows, as in the copy."""
    query = sql.SQL("SELECT pg_catalog.count(value) FROM (SELECT value FROM pg_temp.confiture_values LIMIT {}) v")
    return search_path.relying(tx, query.format(search_path.ROWS), path)


def _reads(tx: Transaction, table: Table) -> tuple[str, ...]:
    numbered = {name for _, name in tx.pg.execute(_named("reads"), {"table": table.oid}).fetchall()}
    shape = only_row(tx.pg.execute(_named("shape")))
    # A reference to the whole row depends on the table and on none of its columns.
    whole = bool(shape[3])
    return tuple(c.name for c in table.columns if whole or c.name in numbered)


def _problem(tx: Transaction, table: Table) -> str | None:
    shape = only_row(tx.pg.execute(_named("shape")))
    if shape[0]:
        return "reads other tables in a subquery: a change in those tables would not be detected"
    if shape[1]:
        return "depends on the current time or role, which may differ between two reads"
    if shape[2]:
        return "takes a value from a sequence"
    for name, schema, volatility, kind, returns_set, arguments in tx.pg.execute(_named("functions")).fetchall():
        called = f"{schema}.{name}" if schema != "pg_catalog" else str(name)
        if kind in ("a", "w"):
            return f"calls the {'aggregate' if kind == 'a' else 'window function'} {called}: each row must give one row"
        if returns_set:
            return f"calls {called}, which returns a set"
        if volatility == "v":
            return f"calls the volatile function {called}: two reads of one row may differ"
        allowed = schema == "pg_catalog" and name in STABLE_ALLOWED and "now" not in name
        if volatility == "s" and not allowed:
            return f"calls the stable function {called}({arguments}): its result may differ between two reads"
    return None
