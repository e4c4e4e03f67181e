"""The session that runs the statements of migrations: as in a build, with the user's search_path, and never trusted.

A file may set any parameter of its session, and its role. Therefore the ledger is written under the session's own role
and settings again, and no file inherits the settings of another.
"""

from __future__ import annotations

from math import ceil

from confiture.postgres.connection import Pg
from confiture.postgres.profile import PROFILE, profile_sql, session_profile_sql
from confiture.postgres.session import Session

#: Only DDL of the user runs in the session, so that row security and the event triggers of the database apply.
_AS_THE_USER = (
    "SELECT pg_catalog.set_config('row_security', 'on', {local}),"
    " pg_catalog.set_config('lock_timeout', '{timeout}ms', {local}),"
    " CASE WHEN pg_catalog.current_setting('event_triggers', true) = 'off'"
    " THEN pg_catalog.set_config('event_triggers', 'on', {local}) END"
)
_AS_CONFITURE = (
    b"RESET SESSION AUTHORIZATION; RESET ROLE;"
    b" SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = '0'; SET LOCAL lock_timeout = '30s';"
    b" SELECT pg_catalog.set_config('session_replication_role', 'origin', true)"
    b" WHERE pg_catalog.current_setting('session_replication_role') <> 'origin'"
)
#: ``DISCARD ALL`` by its parts, of which a transaction accepts these.
#: https://www.postgresql.org/docs/current/sql-discard.html
_DISCARD = (
    b"CLOSE ALL; RESET ALL; DEALLOCATE ALL; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD SEQUENCES; DISCARD TEMP"
)


def as_the_user(pg: Pg, lock_timeout: float) -> None:
    """Begin the user's part of an open transaction.

    :param lock_timeout: seconds for which each statement waits for a lock.
    """
    pg.execute(_AS_THE_USER.format(local="true", timeout=ceil(lock_timeout * 1000)).encode())


def as_confiture(pg: Pg) -> None:
    """End the user's part of an open transaction, whatever role and settings it has left."""
    pg.execute(_AS_CONFITURE)


def in_one_transaction(session: Session, pg: Pg, lock_timeout: float) -> None:
    """Begin another file in the same transaction, with the role and the settings that it would have in its own.

    :param lock_timeout: as for :func:`as_the_user`.
    """
    as_confiture(pg)
    pg.execute(_DISCARD)
    pg.execute(profile_sql(session.database.search_path, "", PROFILE["lock_timeout"]))
    as_the_user(pg, lock_timeout)


def outside_transactions(session: Session, lock_timeout: float) -> Pg:
    """The session's connection in autocommit, with the settings that its transactions would have.

    :param lock_timeout: seconds; 0 for no limit.
    """
    pg = session.pg
    pg.execute("DISCARD ALL")
    pg.execute(session_profile_sql(session.database.search_path))
    pg.execute(_AS_THE_USER.format(local="false", timeout=ceil(lock_timeout * 1000)).encode())
    return pg


def discard(session: Session) -> None:
    """Discard the settings and temporary objects that the user's statements have left."""
    session.pg.execute("DISCARD ALL")
