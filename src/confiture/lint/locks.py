"""The lock modes of tables, what each blocks, and the work that a statement does while it holds one.

https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Lock(IntEnum):
    """A lock mode of a table, in the order of strength. No mode is a number of the server's sources."""

    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    def __str__(self) -> str:
        return self.name.replace("_", " ")

    @property
    def view_name(self) -> str:
        """The name in ``pg_locks``, such as ``AccessExclusiveLock``."""
        return "".join(word.capitalize() for word in self.name.split("_")) + "Lock"

    @property
    def blocks(self) -> str:
        """The statements of other sessions that wait for the lock, as a predicate."""
        return _BLOCKS[self]


_BLOCKS = {
    Lock.ACCESS_SHARE: "blocks nothing but ACCESS EXCLUSIVE",
    Lock.ROW_SHARE: "blocks no read and no write",
    Lock.ROW_EXCLUSIVE: "blocks no read, and writes to the same rows only",
    Lock.SHARE_UPDATE_EXCLUSIVE: "blocks no read and no write, but VACUUM and other DDL",
    Lock.SHARE: "blocks every write",
    Lock.SHARE_ROW_EXCLUSIVE: "blocks every write",
    Lock.EXCLUSIVE: "blocks every write and SELECT ... FOR UPDATE",
    Lock.ACCESS_EXCLUSIVE: "blocks every read and write",
}

#: From this mode on, a lock blocks writers.
BLOCKS_WRITES = Lock.SHARE


class Work(StrEnum):
    """The work on a table while the lock is held; all but ``none`` take time in proportion to the table's size."""

    none = "none"
    rows = "rows"
    scan = "scan"
    build = "build"
    rewrite = "rewrite"

    @property
    def sentence(self) -> str:
        """The work as a predicate of the statement."""
        return _WORK[self]


_WORK = {
    Work.none: "neither scans nor rewrites the table",
    Work.rows: "changes every row",
    Work.scan: "scans the table",
    Work.build: "scans the table and builds an index",
    Work.rewrite: "rewrites the table and its indexes",
}
