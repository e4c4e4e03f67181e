"""The free space of the disk that a server writes to, where the server runs on this machine.

PostgreSQL has no function for it. Only where it is certain that a data directory of this machine is the server's own is
the file system asked: a port that is forwarded to a container looks like a local server.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import load

#: Seconds by which the start in postmaster.pid and the server's own may differ.
START_SECONDS = 10


@dataclass(frozen=True, slots=True)
class FreeDisk:
    """The disk of a server.

    :ivar bytes: that the server may still write.
    :ivar place: the directory that is on it.
    :ivar wal_apart: whether the WAL is on another disk.
    """

    bytes: int
    place: str
    wal_apart: bool


def is_this_machine(host: str) -> bool:
    """Whether a server at this host runs on this machine, as far as its name shows it."""
    return host.startswith(("/", "@", "127.")) or host in ("", "localhost", "::1")


def of(tx: Transaction) -> FreeDisk | None:
    """The disk with the database of a transaction; None where its server is elsewhere, or this is not certain."""
    if not is_this_machine(tx.pg.info.host):
        return None
    with suppress(psycopg.Error, OSError, ValueError, IndexError, struct.error):
        with tx.pg.transaction():
            data, tablespace, started, identifier = only_row(tx.pg.execute(load("forecast.sql")["place"]))
        if data is None or not _is_its_own(Path(data), started, identifier):
            return None
        place = Path(tablespace or data)
        found = os.statvfs(place)
        apart = os.stat(Path(data) / "pg_wal").st_dev != os.stat(place).st_dev
        return FreeDisk(found.f_bavail * found.f_frsize, str(place), apart)
    return None


def _is_its_own(data: Path, started: float, identifier: str) -> bool:
    """Whether the data directory of this machine belongs to the server that is running and was asked."""
    lines = (data / "postmaster.pid").read_text().splitlines()
    (found,) = struct.unpack("=Q", (data / "global/pg_control").read_bytes()[:8])
    same_place = os.path.realpath(lines[1]) == os.path.realpath(data)
    return same_place and abs(int(lines[2]) - started) <= START_SECONDS and str(found) == identifier
