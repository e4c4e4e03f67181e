"""``build``: a database, or one file, from ordered DDL files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from confiture import __version__, build, config
from confiture.build import DdlFile
from confiture.commands.driver_errors import translated
from confiture.config import Database
from confiture.errors import UsageError
from confiture.postgres.session import Session


def build_database(name: str, project: Path) -> tuple[Database, int]:
    """Build the schema of an existing database in one transaction.

    :return: the database, and how many statements ran.
    :raises UsageError: when no database is named.
    """
    database = named(name, project, "--apply builds the database of an environment")
    files = files_of(database, project)
    with translated("build"), Session(database, "build", user_sql=True) as session, session.transaction() as tx:
        build.prepare(tx.pg)
        return database, build.apply(tx.pg, files)


def named(name: str, project: Path, why: str) -> Database:
    """The database of an environment.

    :param why: a database is needed, for the error.
    :raises UsageError: when no database is named.
    """
    if not name:
        raise UsageError("no database is named", why=why, fix="name it with --env")
    return config.resolve(name, project)


def files_of(database: Database, project: Path) -> tuple[DdlFile, ...]:
    """The DDL files of a database in their order.

    :raises UsageError: there are no files.
    """
    return build.collect(database.schema_dir or project / config.SCHEMA, database.include, database.exclude)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A DDL file in the order of execution.

    :ivar path: relative to the folder of the schema.
    :ivar statements: their number.
    """

    path: str
    statements: int


@dataclass(frozen=True, slots=True)
class Ddl:
    """The DDL of a project, or the files of it that an environment selects.

    :ivar text: all files as one, with a header.
    :ivar digest: SHA-256 over the relative paths and the contents of the files.
    """

    text: str
    digest: str
    files: tuple[ListedFile, ...]


def ddl(environment: str | None, project: Path) -> Ddl:
    """The DDL files, in order. The same files give the same text.

    :param environment: whose ``include`` and ``exclude`` select the files; None for all files of the project.
    :raises UsageError: there are no files.
    :raises FaultyInput: a file cannot be split into statements, or cannot be part of one transaction.
    """
    database = None if environment is None else config.resolve(environment, project)
    files = build.collect(project / config.SCHEMA, (), ()) if database is None else files_of(database, project)
    counts = dict.fromkeys((file.relative for file in files), 0)
    for file, _ in build.statements(files):
        counts[file.relative] += 1
    header = build.header(files, sum(counts.values()), database.environment if database else None, __version__)
    listed = tuple(ListedFile(path, count) for path, count in counts.items())
    return Ddl(header + build.render(files), build.digest(files), listed)
