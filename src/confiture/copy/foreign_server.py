"""The foreign server, and the check that the target's server reaches the source through it.

A host name may mean another server on another machine. The check therefore looks for Confiture's own source session in
pg_stat_activity through the foreign server. The foreign server uses the security options of Confiture's own connection,
whether the conninfo, a service file or the environment sets them; where that is not possible, COPY is used instead.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from confiture.config import redact
from confiture.errors import ConfitureError
from confiture.postgres.connection import KEEPALIVES, Pg, effective
from confiture.postgres.profile import REMOTE_PROFILE
from confiture.postgres.session import Session, Transaction
from confiture.sql import load
from confiture.types import Json

#: Seconds of a round trip, on which the way of the rows depends: within a region, a network takes less. A machine that
#: is farther from both servers than that would receive and send each row over the longer way.
NEAR_SECONDS = 0.005
ROUND_TRIPS = 3

#: The libpq options that decide how a connection is authenticated and encrypted. In a foreign server, files are paths
#: on the target's server.
_SECURITY = (
    "sslmode", "sslnegotiation", "sslcert", "sslkey", "sslcertmode", "sslrootcert", "sslsni",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "gssencmode", "krbsrvname", "gsslib", "gssdelegation",
    "channel_binding", "require_auth",
    "requirepeer", "target_session_attrs",
)  # fmt: skip


def create(
    tx: Transaction,
    source: Session,
    name: str,
    seen_as: str | None,
    *,
    proven: bool = True,
    application_name: str | None = None,
) -> None:
    """CREATE SERVER and USER MAPPING for the current user in ``tx``.

    :param name: of the server.
    :param seen_as: conninfo parts that differ from the target's point of view (host, port).
    :param proven: False before the check: another server, of another version, may be reached.
    :param application_name: of its sessions on the source; None for the one that all sessions of the run have.
    :raises psycopg.Error: the error of the target.
    """
    info = source.pg.info
    given = {**conninfo_to_dict(source.database.conninfo), **conninfo_to_dict(seen_as or "")}
    settings = REMOTE_PROFILE | ({"transaction_timeout": "0"} if proven and info.server_version >= 170000 else {})
    options = {
        "host": str(given.get("host") or info.host),
        "port": str(given.get("port") or info.port),
        "dbname": info.dbname,
        "options": " ".join(f"-c {k}={_escaped(v)}" for k, v in settings.items()),
        "application_name": application_name or f"confiture {source.run} fdw",
        **{k: str(v) for k, v in KEEPALIVES.items()},
        "updatable": "false",
    }
    options.update(security(source))
    # The planner does not fetch statistics from the source: they would decide which conditions it ships.
    tx.pg.execute(
        sql.SQL("CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({})").format(
            sql.Identifier(name), _options(options)
        )
    )
    add_user_mapping(tx, source, name, seen_as)


def facts(tx: Transaction, source: Session, seen_as: str | None) -> Json:
    """The facts that decide between COPY and postgres_fdw: its ``problem``, and whether a server is ``near``.

    :param tx: on the target, as in :func:`problem`.
    """
    return {"problem": problem(tx, source, seen_as), "near": _is_near(tx, source)}


def _is_near(tx: Transaction, source: Session) -> bool:
    """Whether the shortest of a few round trips to either server is shorter than :data:`NEAR_SECONDS`."""
    with source.transaction(read_only=True) as other:
        return min(_round_trip(t.pg) for t in (tx, other) for _ in range(ROUND_TRIPS)) < NEAR_SECONDS


def _round_trip(pg: Pg) -> float:
    began = time.monotonic()
    pg.execute("SELECT 1")
    return time.monotonic() - began


def security(source: Session) -> dict[str, str]:
    """The options with which the foreign server is authenticated and encrypted as the live connection is.

    libpq's defaults are left out except ``sslmode``, because an older libpq may not have the option.
    """
    defaults = {o.keyword.decode(): (o.compiled or b"").decode() for o in source.pg.pgconn.info} | _DEFAULTS
    found = {k: v for k, v in effective(source.pg).items() if k in _SECURITY and v != defaults[k]}
    root = found.get("sslrootcert") or str(_OWN_FILES / "root.crt")
    if found.get("sslmode") == "require" and Path(root).exists():
        # With this file libpq verifies the server's certificate; the target's server may not have the file.
        found["sslmode"] = "verify-ca"
    return found


#: The values that libpq uses where it lists no default; sslmode is always set.
_DEFAULTS = {"sslcertmode": "allow", "sslmode": ""}
#: Where libpq looks for certificates that no option names.
_OWN_FILES = Path("~/.postgresql").expanduser()


def _revocations(source: Session) -> str | None:
    """The list of revoked certificates in effect; None when there is none."""
    options = effective(source.pg)
    if options.get("sslmode") not in ("require", "verify-ca", "verify-full"):
        return None
    default = str(_OWN_FILES / "root.crl")
    return options.get("sslcrl") or options.get("sslcrldir") or (default if Path(default).exists() else None)


def refresh(tx: Transaction, source: Session, name: str) -> None:
    """Set the foreign server's options to those of the live connection, which may be stricter than at setup."""
    row = tx.pg.execute("SELECT srvoptions FROM pg_catalog.pg_foreign_server WHERE srvname = %s", (name,)).fetchone()
    have = dict(o.split("=", 1) for o in (row[0] if row is not None else None) or [])
    wanted = security(source)
    changes = [
        sql.SQL("{} {} {}").format(sql.SQL("SET" if k in have else "ADD"), sql.Identifier(k), sql.Literal(v))
        for k, v in wanted.items()
        if have.get(k) != v
    ]
    changes += [sql.SQL("DROP {}").format(sql.Identifier(k)) for k in have if k in _SECURITY and k not in wanted]
    if row is not None and changes:
        statement = sql.SQL("ALTER SERVER {} OPTIONS ({})")
        tx.pg.execute(statement.format(sql.Identifier(name), sql.SQL(", ").join(changes)))


def add_user_mapping(tx: Transaction, source: Session, name: str, seen_as: str | None) -> None:
    """Create the user mapping unless it exists."""
    known = "SELECT 1 FROM pg_catalog.pg_user_mappings WHERE srvname = %s AND usename = current_user"
    if tx.pg.execute(known, (name,)).fetchone() is None:
        user = conninfo_to_dict(seen_as or "").get("user") or source.pg.info.user
        _user_mapping(tx, name, str(user), source.pg.info.password)


def drop_user_mapping(tx: Transaction, name: str) -> None:
    """Drop the user mapping, and the source's password with it."""
    tx.pg.execute(sql.SQL("DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER {}").format(sql.Identifier(name)))


#: Extensions that may record nested statements; disabled for the transaction where the role has the privilege.
_RECORDING = (("pg_stat_statements.track", "none"), ("pgaudit.log", "none"))


def _user_mapping(tx: Transaction, server: str, user: str, password: str) -> None:
    """CREATE USER MAPPING with the password from a table, so that no statement and no parameter contains it."""
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
    """CREATE EXTENSION unless it exists."""
    tx.pg.execute("CREATE EXTENSION IF NOT EXISTS postgres_fdw")


def prove(tx: Transaction, source: Session, server: str, application_name: str) -> str | None:
    """Look for Confiture's own source session through the foreign server; why it is not visible, or None.

    :param application_name: of the foreign server's session; it is random, so no other session has it.
    """
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
    with source.transaction(read_only=True) as there:
        encrypted = there.pg.execute(load("foreign_server.sql")["encrypted"], {"name": application_name}).fetchone()
    if source.pg.pgconn.ssl_in_use and encrypted != (True,):
        return "the target's server reaches the source without TLS, and Confiture's own connection uses TLS"
    return None


def problem(tx: Transaction, source: Session, seen_as: str | None) -> str | None:
    """Why postgres_fdw cannot be used here; None when it can. Leaves nothing behind in ``tx``."""
    name = "confiture_rehearsal"
    found: str | None = None
    revoked = _revocations(source)
    if revoked is not None:
        return f"{revoked} lists revoked certificates, and a server that cannot read such a list ignores it"
    try:
        with tx.pg.transaction():
            install(tx)
            own = f"confiture {secrets.token_hex(16)}"
            create(tx, source, name, seen_as, proven=False, application_name=own)
            found = prove(tx, source, name, own)
            raise psycopg.Rollback()
    except (psycopg.Error, ConfitureError) as error:
        return _reason(error)
    return found


def _reason(error: Exception) -> str:
    text = redact(str(error)).strip().splitlines()[0]
    if isinstance(error, psycopg.Error) and error.diag.message_detail:
        text = f"{text}: {redact(error.diag.message_detail).splitlines()[0]}"
    return f"the target's server cannot use postgres_fdw on the source: {text}"
