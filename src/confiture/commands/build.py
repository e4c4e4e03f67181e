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
    """Medium 1 on its own: build a database's schema in one transaction; how many statements."""
    if not name:
        raise UsageError("which database is to be built?", why="--apply builds one", fix="name it with --env")
    database = config.resolve(name, project)
    files = build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    with translated("build"), Session(database, "build", user_sql=True) as session, session.transaction() as tx:
        tx.pg.execute(sql.SQL("SET LOCAL row_security = on"))
        # Nothing but DDL happens here: the database's event triggers fire, unlike during a run.
        tx.pg.execute(
            "SELECT set_config('event_triggers', 'on', true) WHERE current_setting('event_triggers', true) = 'off'"
        )
        return database, build.apply(tx.pg, files)


def ddl(environment: str | None, project: Path) -> str:
    """Every DDL file in its order as one text; an environment's include and exclude hold."""
    if environment is None:
        return build.render(build.collect(project / config.SCHEMA, (), ()))
    database = config.resolve(environment, project)
    return build.render(
        build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)
    )
