"""``build``: a database, or one file, from ordered DDL files; or a comparison of a database with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import IsolationLevel

from confiture import __version__, build, catalog, config
from confiture.build import DdlFile
from confiture.catalog_differences.compare import differences, stated_by_ddl, without_names
from confiture.catalog_differences.describe import describe
from confiture.catalog_differences.model import COLUMN_ORDER, Description, Difference, without_properties
from confiture.catalog_model import Identity
from confiture.commands.driver_errors import translated
from confiture.config import Database
from confiture.errors import DifferencesFound, UsageError
from confiture.postgres.session import Session
from confiture.scratch_build import embedded_server, place
from confiture.scratch_build.embedded_server import Roles
from confiture.scratch_build.place import Scratch
from confiture.types import counted

#: How often the catalogs are read again when another session drops an object while it is described.
_ATTEMPTS = 3


def build_database(name: str, project: Path) -> tuple[Database, int]:
    """Build the schema of an existing database in one transaction.

    :return: the database, and how many statements ran.
    :raises UsageError: when no database is named.
    """
    database = _named(name, project, "--apply builds the database of an environment")
    files = _files(database, project)
    with translated("build"), Session(database, "build", user_sql=True) as session, session.transaction() as tx:
        build.prepare(tx.pg)
        return database, build.apply(tx.pg, files)


def _named(name: str, project: Path, why: str) -> Database:
    if not name:
        raise UsageError("no database is named", why=why, fix="name it with --env")
    return config.resolve(name, project)


def _files(database: Database, project: Path) -> tuple[DdlFile, ...]:
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
    files = build.collect(project / config.SCHEMA, (), ()) if database is None else _files(database, project)
    counts = dict.fromkeys((file.relative for file in files), 0)
    for file, _ in build.statements(files):
        counts[file.relative] += 1
    header = build.header(files, sum(counts.values()), database.environment if database else None, __version__)
    listed = tuple(ListedFile(path, count) for path, count in counts.items())
    return Ddl(header + build.render(files), build.digest(files), listed)


@dataclass(frozen=True, slots=True)
class Checked:
    """A comparison of a database with its DDL.

    :ivar database: as it was named; ``version``: the major version of its server.
    :ivar objects: the number of objects that the DDL builds.
    """

    database: str
    version: int
    scratch: Scratch
    digest: str
    objects: int
    differences: tuple[Difference, ...]


def check(name: str, project: Path, *, scratch: str | None, ignore: Sequence[str], column_order: bool) -> Checked:
    """Compare the catalog of a database with the one that its DDL builds. Nothing in the database changes.

    :param scratch: the name of a scratch database beside it, in which the DDL is built; None to choose the place.
    :param ignore: patterns of names of objects that are not compared, as in a shell.
    :param column_order: whether tables with the same columns in another order differ.
    :raises UsageError: when no database is named.
    :raises ConfitureError: the DDL cannot be built, or there is no place to build it.
    """
    database = _named(name, project, "--check compares the database of an environment with its DDL")
    files = _files(database, project)
    with translated("the comparison with the DDL"):
        like, known, found = _described(database)
        where, ddl_of = place.build_and_describe(database, like, known, files, scratch)
    built, live = stated_by_ddl(ddl_of.empty, ddl_of.built, found, ddl_of.builder)
    left = frozenset() if column_order else frozenset((COLUMN_ORDER,))
    built, live = (without_properties(without_names(d, tuple(ignore)), left) for d in (built, live))
    return Checked(database.name, like.major, where, build.digest(files), len(built), differences(built, live))


def _described(database: Database) -> tuple[Identity, Roles, Description]:
    """The identity, the roles and the description of the database, of one snapshot."""
    with Session(database, "check") as session:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with session.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as tx:
                    tx.pg.execute("SET LOCAL quote_all_identifiers = off")
                    return catalog.identity(tx), embedded_server.roles(tx), describe(tx)
            except (psycopg.errors.InternalError_, psycopg.errors.UndefinedObject, psycopg.errors.UndefinedTable):
                # Functions such as pg_get_viewdef read the current catalogs, in which the object no longer exists.
                if attempt == _ATTEMPTS:
                    raise
    raise AssertionError("each attempt returns or raises")


def differences_found(checked: Checked) -> DifferencesFound:
    """The error of a comparison that found differences."""
    return DifferencesFound(
        f"{checked.database} differs from its DDL",
        why=f"{counted(len(checked.differences), 'object')} differ",
        fix="change the database or the DDL; --ignore NAME leaves out objects that the DDL does not contain",
    )
