"""The session profile: the settings that every transaction of Confiture begins with (I-9.1).

It is set with ``SET LOCAL`` at the start of every transaction, because behind a pooler a session's settings vanish or
leak (I-9.4). ``SET`` takes no snapshot, so a REPEATABLE READ transaction can still lock first and take its snapshot
after.
https://www.postgresql.org/docs/current/sql-set-transaction.html
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from psycopg import sql

#: Settings that decide how values are read, printed and compared, and how long locks and sessions are kept.
PROFILE: dict[str, str] = {
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmloption": "content",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",
    "synchronous_commit": "on",
    "default_transaction_read_only": "off",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
    "client_connection_check_interval": "2s",
    # A server with JIT compiles the fingerprint's query in ten times the time that it runs, in each transaction.
    "jit": "off",
}

#: Those of them that decide how values are read, printed and compared.
OF_VALUES = (
    "client_encoding",
    "timezone",
    "datestyle",
    "intervalstyle",
    "extra_float_digits",
    "bytea_output",
    "xmloption",
    "search_path",
    "row_security",
    "standard_conforming_strings",
    "array_nulls",
    "transform_null_equals",
)

#: The lock timeout where readers or writers queue behind the waiting lock; the transaction is then repeated.
BRIEF_LOCK = "1s"

#: Settings that a foreign server must have too (I-3.10), because they decide how values are printed. Its lock timeout
#: is short: a foreign table's session may wait for a session that waits for ours, which no server sees as a deadlock.
REMOTE_PROFILE = {
    name: PROFILE[name]
    for name in (
        "timezone",
        "datestyle",
        "intervalstyle",
        "extra_float_digits",
        "bytea_output",
        "xmloption",
        "lc_monetary",
        "row_security",
        "search_path",
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        # Of the source's own side: its session ends when the target's server has vanished, with the locks it holds. An
        # idle transaction is no sign of that: between two FETCHes the target inserts, for as long as that takes.
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
        "client_connection_check_interval",
    )
} | {"lock_timeout": BRIEF_LOCK}

#: A transaction that sets this to the run's schema is Confiture's own: capture does not log it, because the change
#: would be applied twice, and the write block accepts it (I-7.4).
WRITER = "confiture.writer"


@cache
def profile_sql(search_path: tuple[str, ...] | None, run: str, lock_timeout: str) -> bytes:
    """The ``SET LOCAL`` statements of the profile, as one string.

    :param search_path: for sessions that run the user's own SQL; None keeps ``pg_catalog``.
    :param run: the run these writes are for; empty before there is one.
    """
    statements = _settings(sql.SQL("SET LOCAL"), {**PROFILE, "lock_timeout": lock_timeout}, search_path)
    if run:
        statements.append(sql.SQL("SET LOCAL {} = {}").format(sql.SQL(WRITER), sql.Literal(f"confiture_{run}")))
    return sql.SQL("; ").join(statements).as_bytes()


@cache
def session_profile_sql(search_path: tuple[str, ...]) -> bytes:
    """The statements of the profile for a statement outside a transaction, which SET LOCAL does not reach.

    The session is the command's own and not shared by a pooler.
    """
    return sql.SQL("; ").join(_settings(sql.SQL("SET"), PROFILE, search_path)).as_bytes()


def _settings(verb: sql.SQL, settings: Mapping[str, str], path: tuple[str, ...] | None) -> list[sql.Composable]:
    statements: list[sql.Composable] = [
        sql.SQL("{} {} = {}").format(verb, sql.Identifier(name), sql.Literal(value))
        for name, value in settings.items()
        if name != "search_path"
    ]
    names = sql.SQL(", ").join(map(sql.Identifier, path or ("pg_catalog",)))
    return [*statements, sql.SQL("{} search_path = {}").format(verb, names)]
