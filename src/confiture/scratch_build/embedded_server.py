"""A scratch database on a server of this machine, which the next command removes if this one is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from confiture.catalog_model import Identity
from confiture.config import Database
from confiture.errors import Refused
from confiture.failpoints import failpoint
from confiture.postgres import embedded
from confiture.postgres.connection import Pg, only_row
from confiture.postgres.create_database import create_statement
from confiture.postgres.embedded import Server
from confiture.postgres.session import Transaction
from confiture.sql import load

#: The names of the folders of such servers, before and after the command has locked its folder.
_NEW, _NAME = ".confiture-check-", "confiture-check-"
_LOCK = "lock"
#: The build is one transaction, which locks each object that it creates. Only this user may connect.
_SETTINGS = {"max_locks_per_transaction": "10000", "listen_addresses": "", "unix_socket_permissions": "0700"}
_OWNER_OF_ALL = "postgres"


def version() -> int | None:
    """The major version of the packaged server; None if it is not installed."""
    try:
        program = embedded.bundled() / "postgres"
    except Refused:
        return None
    banner = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return int(banner.rpartition(") ")[2].partition(".")[0])


class Roles(NamedTuple):
    """The roles of a server: the CREATE ROLE statement of each, the members of roles, and the owner of the database."""

    created: tuple[str, ...]
    members: tuple[tuple[str, str], ...]
    owner: str


def roles(tx: Transaction) -> Roles:
    """The roles of the transaction's server, which the DDL may name."""
    texts = load("scratch.sql")
    created = tuple(str(statement) for (statement,) in tx.pg.execute(texts["roles"]).fetchall())
    members = tuple((str(role), str(member)) for role, member in tx.pg.execute(texts["memberships"]).fetchall())
    return Roles(created, members, str(only_row(tx.pg.execute(texts["owner"]))[0]))


@contextmanager
def scratch_database(compared: Database, like: Identity, known: Roles) -> Iterator[Database]:
    """An empty database with the name, the encoding and the roles of the compared one, on a server of its own.

    The server is removed after the block. If the command is killed, its server runs until the next command removes it.

    :raises Refused: the server cannot be started.
    :param compared: the database that the scratch database is compared with.
    :param known: its roles. The role of its sessions is a superuser here, so that it may create every extension.
    """
    _remove_leftovers()
    root, lock = _claimed()
    try:
        with Server(root, settings=_SETTINGS) as server:
            failpoint("scratch.server_started")
            with psycopg.connect(_conninfo(root, server.port, "postgres"), autocommit=True) as admin:
                _create_roles(admin, known, like.role)
                if like.database != "postgres":
                    admin.execute(create_statement(like.database, like, admin.info.server_version, locale="C"))
                owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
                admin.execute(owner.format(sql.Identifier(like.database), sql.Identifier(known.owner)))
            yield compared.with_conninfo(_conninfo(root, server.port, like.database, like.role))
    finally:
        _remove(root)  # of a server that did not start, too
        os.close(lock)


def _conninfo(root: Path, port: int, database: str, user: str = _OWNER_OF_ALL) -> str:
    return make_conninfo("", host=str(root), port=port, dbname=database, user=user)


def _create_roles(admin: Pg, known: Roles, builder: str) -> None:
    for statement in known.created:
        # The server already has the role that owns it.
        with suppress(psycopg.errors.DuplicateObject):
            admin.execute(statement.encode())
    for role, member in known.members:
        admin.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(member)))
    admin.execute(sql.SQL("ALTER ROLE {} SUPERUSER LOGIN").format(sql.Identifier(builder)))


def _claimed() -> tuple[Path, int]:
    """A new folder for a server, and the lock on it that ends with this process.

    The folder gets the name by which it is found only when it is locked.
    """
    root = embedded.scratch(_NEW)
    lock = os.open(root / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    found = root.with_name(_NAME + root.name.removeprefix(_NEW))
    root.rename(found)
    return found, lock


def _remove_leftovers() -> None:
    """Stop and remove the servers of commands that were killed."""
    for root in (found for parent in embedded.scratch_parents() for found in parent.glob(f"{_NAME}*")):
        with suppress(OSError):  # of another user, or removed by another command
            lock = os.open(root / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(root)
            finally:
                os.close(lock)


def _remove(root: Path) -> None:
    """Stop the server of a folder, if it still runs, and remove the folder.

    The process whose id the folder has may be another one by now, so the server itself is asked for its folder.
    """
    with suppress(IndexError, ValueError, psycopg.Error, Refused, FileNotFoundError):
        port = int((root / "data/postmaster.pid").read_text().splitlines()[3])
        with psycopg.connect(_conninfo(root, port, "postgres"), connect_timeout=5):
            pass
        Server(root).stop("immediate")
    shutil.rmtree(root, ignore_errors=True)
