"""``build``: a database, or one file, from ordered DDL files."""

from __future__ import annotations

from pathlib import Path

from psycopg import sql

from confiture import build, config
from confiture.commands.driver_errors import translated
from confiture.config import Database
from confiture.errors import UsageError
from confiture.postgres.session import Session


def build_database(name: str, project: Path) -> tuple[Database, int]:
    """Build the schema of an existing database in one transaction.

    :return: the database, and how many statements ran.
    :raises UsageError: when no database is named.
    """
    if not name:
        raise UsageError(
            "no database is named", why="--apply builds the database of an environment", fix="name it with --env"
        )
    database = config.resolve(name, project)
    files = build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    with translated("build"), Session(database, "build", user_sql=True) as session, session.transaction() as tx:
        tx.pg.execute(sql.SQL("SET LOCAL row_security = on"))
        # Only DDL runs here, so the event triggers of the database fire, unlike during a run.
        tx.pg.execute(
            "SELECT set_config('event_triggers', 'on', true) WHERE current_setting('event_triggers', true) = 'off'"
        )
        return database, build.apply(tx.pg, files)


def ddl(environment: str | None, project: Path) -> str:
    """The DDL files, in order, as one text.

    :param environment: whose ``include`` and ``exclude`` select the files; None for all files of the project.
    """
    if environment is None:
        return build.render(build.collect(project / config.SCHEMA, (), ()))
    database = config.resolve(environment, project)
    return build.render(
        build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    )
