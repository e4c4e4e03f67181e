"""Whether the target's server reaches the source with postgres_fdw, and the foreign server itself.

The proof is that through the foreign server our own source session is seen in pg_stat_activity: a
host name means something else on another machine.
"""

from __future__ import annotations

import contextlib

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from confiture.config import redact
from confiture.db import KEEPALIVES, REMOTE_PROFILE, Session, Transaction
from confiture.errors import ConfitureError
from confiture.sql import load

_SERVER_OPTIONS = ("sslmode", "sslrootcert", "target_session_attrs", "gssencmode", "channel_binding")


def create(tx: Transaction, source: Session, name: str, seen_as: str | None, *, proven: bool = True) -> None:
    """CREATE SERVER and USER MAPPING for the current user in ``tx``.

    :param name: of the server.
    :param seen_as: conninfo parts that differ from the target's point of view (host, port).
    :param proven: False while it may be another server, of another version, that is reached.
    :raises psycopg.Error: as the target says it.
    """
    info = source.pg.info
    given = {**conninfo_to_dict(source.database.conninfo), **conninfo_to_dict(seen_as or "")}
    settings = REMOTE_PROFILE | ({"transaction_timeout": "0"} if proven and info.server_version >= 170000 else {})
    options = {
        "host": str(given.get("host") or info.host),
        "port": str(given.get("port") or info.port),
        "dbname": info.dbname,
        "options": " ".join(f"-c {k}={_escaped(v)}" for k, v in settings.items()),
        "application_name": f"confiture {source.run} fdw",
        **{k: str(v) for k, v in KEEPALIVES.items()},
        "updatable": "false",
    }
    options.update({k: str(given[k]) for k in _SERVER_OPTIONS if given.get(k)})
    # What is shipped is decided by our own rules, never by statistics fetched over the wire.
    tx.pg.execute(
        sql.SQL("CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({})").format(
            sql.Identifier(name), _options(options)
        )
    )
    let_in(tx, source, name, seen_as)


def let_in(tx: Transaction, source: Session, name: str, seen_as: str | None) -> None:
    """The user mapping, where there is none or it was dropped."""
    known = "SELECT 1 FROM pg_catalog.pg_user_mappings WHERE srvname = %s AND usename = current_user"
    if tx.pg.execute(known, (name,)).fetchone() is None:
        user = conninfo_to_dict(seen_as or "").get("user") or source.pg.info.user
        _user_mapping(tx, name, str(user), source.pg.info.password)


def shut_out(tx: Transaction, name: str) -> None:
    """Drop the user mapping, and the source's password with it."""
    tx.pg.execute(sql.SQL("DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER {}").format(sql.Identifier(name)))


#: Extensions that may record statements within statements; turned off for the transaction where our role may do that.
_RECORDING = (("pg_stat_statements.track", "none"), ("pgaudit.log", "none"))


def _user_mapping(tx: Transaction, server: str, user: str, password: str) -> None:
    """CREATE USER MAPPING with the password from a table, so that no statement and no parameter of ours contains it."""
    named = load("foreign_server.sql")
    for setting in _RECORDING:
        with contextlib.suppress(psycopg.Error), tx.pg.transaction():
            tx.pg.execute("SELECT pg_catalog.set_config(%s, %s, true)", setting)
    tx.pg.execute(named["mapping_table"])
    with tx.pg.cursor() as cursor, cursor.copy(named["mapping_values"]) as copy:
        copy.set_types(["text", "text", "text"])
        copy.write_row((server, user, password))
    tx.pg.execute(named["create_mapping"])


def _options(values: dict[str, str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(k), sql.Literal(v)) for k, v in values.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def install(tx: Transaction) -> None:
    """CREATE EXTENSION unless it is there."""
    tx.pg.execute("CREATE EXTENSION IF NOT EXISTS postgres_fdw")


def prove(tx: Transaction, source: Session, server: str) -> str | None:
    """Look for our own source session through the foreign server; why it is not seen, or None."""
    backend = source.backend
    with tx.pg.transaction():
        tx.pg.execute(
            sql.SQL(
                "CREATE FOREIGN TABLE pg_temp.confiture_seen (pid integer, backend_start timestamptz)"
                " SERVER {} OPTIONS (schema_name 'pg_catalog', table_name 'pg_stat_activity')"
            ).format(sql.Identifier(server))
        )
        found = tx.pg.execute(
            "SELECT count(*) FROM pg_temp.confiture_seen"
            " WHERE pid = %s AND extract(epoch FROM backend_start)::text = %s",
            (backend.pid, backend.started),
        ).fetchone()
        tx.pg.execute("DROP FOREIGN TABLE pg_temp.confiture_seen")
    if found is None or found[0] != 1:
        return "the target's server reaches another server under the source's address"
    return None


def problem(tx: Transaction, source: Session, seen_as: str | None) -> str | None:
    """Why postgres_fdw cannot be used here; None when it can. Leaves nothing behind in ``tx``."""
    name = "confiture_rehearsal"
    found: str | None = None
    try:
        with tx.pg.transaction():
            install(tx)
            create(tx, source, name, seen_as, proven=False)
            found = prove(tx, source, name)
            raise psycopg.Rollback()
    except (psycopg.Error, ConfitureError) as error:
        return _reason(error)
    return found


def _reason(error: Exception) -> str:
    text = redact(str(error)).strip().splitlines()[0]
    return f"the target's server cannot use postgres_fdw on the source: {text}"
