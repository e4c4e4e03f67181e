"""Whether the default of a new column has to be evaluated for each row. No I/O.

https://www.postgresql.org/docs/current/sql-altertable.html: "adding a column with a volatile DEFAULT ... will require
the entire table and its indexes to be rewritten."
"""

from __future__ import annotations

from typing import Any

from confiture.lint import nodes
from confiture.lint.seen import Seen

#: Functions of PostgreSQL that occur in defaults and are not volatile. A test compares them with a server's catalog.
NOT_VOLATILE = frozenset((
    "abs", "age", "array_fill", "array_length", "ascii", "btrim", "ceil", "chr", "concat", "concat_ws", "convert_from",
    "convert_to", "current_database", "current_schema", "date", "date_part", "date_trunc", "decode", "encode", "floor",
    "format", "hashtext", "host", "int4range", "int8range", "inet_client_addr", "interval", "json_build_array",
    "json_build_object", "jsonb_build_array", "jsonb_build_object", "left", "length", "lower", "lpad", "ltrim",
    "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz", "md5", "mod", "now", "numrange",
    "pg_backend_pid", "position", "power", "repeat", "replace", "reverse", "right", "round", "row_to_json", "rpad",
    "rtrim", "sha256", "sign", "split_part", "statement_timestamp", "strpos", "substr", "substring", "timezone",
    "to_char", "to_date", "to_json", "to_jsonb", "to_number", "to_timestamp", "to_tsvector", "transaction_timestamp",
    "trunc", "tsrange", "tstzrange", "txid_current_snapshot", "upper",
))  # fmt: skip


def volatile(node: Any, seen: Seen) -> str | None:
    """The first function of an expression that may return another value for each row; None if there is none."""
    for call in nodes.found(node, "FuncCall"):
        name = nodes.strings(call.funcname)[-1]
        if seen.facts is not None and name in seen.facts.functions:
            if seen.facts.functions[name]:
                return name
        elif name not in NOT_VOLATILE:
            return name
    return None
