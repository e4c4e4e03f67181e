"""Find the databases that a command names: source and target, and the run between them."""

from __future__ import annotations

from confiture import config
from confiture.catalog_model import Identity
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.config import Database, UnknownEnvironment
from confiture.errors import CannotConnect, Refused
from confiture.journal import runs, schema
from confiture.journal.model import Run
from confiture.naming import naming
from confiture.postgres.session import Session
from confiture.schema_to_schema import setup
from confiture.states import SCHEMA_TO_SCHEMA, Medium
from confiture.types import Json


def both_databases(where: Endpoints) -> tuple[Database, Database]:
    """Source and target of a run that may not exist yet.

    :raises UnknownEnvironment: when a name is neither an environment nor a URI.
    """
    if where.source is None:
        return _known_databases(where)
    source = config.resolve(where.source, where.project)
    try:
        return source, config.resolve(where.target, where.project)
    except UnknownEnvironment as error:
        if source.environment is None:
            fix = "name the source by its environment to create the target beside it, or the target by a URI"
            raise UnknownEnvironment(error.what, why=error.why, fix=fix) from None
    return source, source.with_dbname(where.target)


def _known_databases(where: Endpoints) -> tuple[Database, Database]:
    """Source and target of an existing run, whose journal has recorded the source."""
    try:
        target = config.resolve(where.target, where.project)
    except UnknownEnvironment as error:
        fix = f"a new run needs --source too; {error.fix}"
        raise UnknownEnvironment(error.what, why=error.why, fix=fix) from None
    return source_of(find_run(target, look=True), where), target


def target_of(where: Endpoints) -> Database:
    """The target of a run that exists.

    :raises UnknownEnvironment: when a name is neither an environment nor a URI, naming the command that creates it.
    """
    try:
        return config.resolve(where.target, where.project)
    except UnknownEnvironment as error:
        new = f"a new target is created by {where.naming.command('setup --source SOURCE')}"
        raise UnknownEnvironment(error.what, why=error.why, fix=f"{error.fix}\n{new}") from None


def _start(target: Database) -> str:
    name = target.environment or target.name
    return f"start a run: {naming(name, None).command('setup')} --source SOURCE, where SOURCE names the old database"


def find_run(target: Database, *, look: bool = False, medium: Medium | None = SCHEMA_TO_SCHEMA) -> Run:
    """The target's active run, else its last run. An older journal is upgraded.

    :param look: change nothing; refuse an older journal.
    :param medium: of the run; None for any.
    :raises Refused: when the target has no run, or the journal is newer than this version of Confiture.
    """
    with translated("the search for the run"), Session(target, "command") as session:
        if not _exists(session):
            raise no_database(target)
        if not look:
            schema.keep_up(session)
        with session.transaction(read_only=True) as tx:
            have = schema.version(tx)
            schema.refuse_newer(have)
            schema.refuse_older(have)
            run = runs.latest(tx, medium) if have else None
    if run is None:
        raise no_run(target)
    return run


def no_database(target: Database) -> Refused:
    """The refusal of a target that does not exist."""
    return Refused(f"there is no database {target.dbname or target.name}", why="setup creates it", fix=_start(target))


def no_run(target: Database) -> Refused:
    """The refusal of a target without a run."""
    return Refused(f"{target.name} has no run", why="its database contains no journal of one", fix=_start(target))


def _exists(session: Session) -> bool:
    try:
        return bool(session.pg)
    except CannotConnect:
        return setup.database_exists(session.database)


def source_of(run: Run, where: Endpoints) -> Database:
    """The source of the run: as named now, else by its environment, else as the journal has recorded it."""
    if where.source is not None:
        return config.resolve(where.source, where.project)
    if run.source_name in config.environments(where.project):
        return config.resolve(run.source_name, where.project)
    return config.resolve(run.source_conninfo, where.project)


def refuse_other(run: Run, side: str, known: Json, found: Identity) -> None:
    """:raises Refused: when ``found`` is not the database that the run has recorded for that side."""
    if (known["system_identifier"], known["oid"]) != (found.system_identifier, found.oid):
        raise Refused(
            f"the {side} is not the database that the run began with",
            why=f"run {run.short} began with {known['database']} of server {known['system_identifier']}, "
            f"this is {found.database} of server {found.system_identifier}",
            fix=f"name that database with --{side}",
        )
