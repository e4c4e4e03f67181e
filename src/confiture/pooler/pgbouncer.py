"""PgBouncer as a gate: PAUSE its pool, re-point it through its configuration file and RELOAD, RESUME it.

PAUSE holds from the moment it is asked for and outlives its console: what was paused is resumed by us, by the
same command after a crash, or by hand. With transaction pooling it waits for transactions under way; with
session pooling it would wait for clients to leave, so that is refused.
https://www.pgbouncer.org/usage.html
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from confiture.config import Database
from confiture.errors import CannotConnect, CutoverAborted, CutoverUnfinished, Refused
from confiture.failpoints import failpoint
from confiture.pooler import config_file
from confiture.pooler.config_file import Address, Entry
from confiture.pooler.console import Console, Failed, TimedOut
from confiture.types import double_quoted

#: Seconds to wait until connections to the old database are closed, where the pool was not paused.
CLOSING_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Pool:
    """What the user named: the admin console's conninfo, the pool, and its file (None: what PgBouncer says)."""

    conninfo: str
    name: str
    config: Path | None = None


class PgBouncer:
    """One pool of a PgBouncer, on this machine or one whose configuration file is reached from here.

    :param to: where the pool leads after :meth:`repoint`.
    """

    def __init__(self, pool: Pool, to: Address) -> None:
        self._console = Console(pool.conninfo)
        self._pool = pool.name
        self._config = pool.config
        self._to = to

    @property
    def name(self) -> str:
        """For people and the journal."""
        return f"pool {self._pool} of PgBouncer ({self._console.public})"

    def close(self) -> None:
        """Close the console."""
        self._console.close()

    # Before anything is changed -----------------------------------------------------------------------

    def check(self) -> None:
        """The console answers to an administrator, the pool is there, of a kind that can be paused, and its entry
        can be rewritten.

        :raises Refused: naming what is not so.
        """
        status = self._status()
        self._refuse_session_pooling(status)
        self._refuse_no_administrator(status)
        entry = self._entry()
        config_file.refuse_unwritable(entry.path)
        written = config_file.address(entry.value, self._pool)
        if written not in (_address(status), self._to):
            raise Refused(
                f"{entry.path} is not what PgBouncer goes by",
                why=f"pool {self._pool} leads to {_address(status)}, the file says {written}",
                fix="RELOAD it, or name its file with --pgbouncer-config",
            )

    def leads_to(self, like: Database) -> Database:
        """The database the pool leads to now, to be reached with the role and password of ``like``."""
        given = conninfo_to_dict(like.conninfo)
        for name in ("host", "hostaddr", "port", "dbname"):
            given.pop(name, None)
        address = _address(self._status())
        host = {"host": address.host} if address.host is not None else {}
        conninfo = make_conninfo("", **{**given, **host, "port": address.port, "dbname": address.dbname})
        return replace(like, name=f"pool {self._pool}", conninfo=conninfo, environment=None)

    def _status(self) -> dict[str, str]:
        rows = self._console.run("SHOW DATABASES")
        for row in rows:
            if row["name"] == self._pool:
                return row
        known = ", ".join(row["name"] for row in rows if row["name"] != "pgbouncer")
        raise Refused(
            f"PgBouncer has no pool {self._pool}",
            why=f"it has {known or 'none'}",
            fix="name one with --pool; a pool that * makes needs an entry of its own under [databases]",
        )

    def _refuse_session_pooling(self, status: dict[str, str]) -> None:
        default = next(r["value"] for r in self._console.run("SHOW CONFIG") if r["key"] == "pool_mode")
        # A user may have a mode of its own: the pools that are there tell.
        modes = {r["pool_mode"] for r in self._console.run("SHOW POOLS") if r["database"] == self._pool}
        if "session" in (modes or {status["pool_mode"] or default}):
            raise Refused(
                f"pool {self._pool} uses session pooling",
                why="PAUSE would wait until every client has disconnected",
                fix="set pool_mode = transaction for it, or cut over without --pgbouncer and restart the application",
            )

    def _refuse_no_administrator(self, status: dict[str, str]) -> None:
        if status["paused"] != "0":
            return
        try:
            self._console.run(f"RESUME {double_quoted(self._pool)}")  # it is not paused: only who may ask is told
        except Failed as error:
            if "not paused" not in error.why:
                raise Refused(
                    f"pool {self._pool} may not be paused",
                    why=error.why,
                    fix="connect to the console as one of PgBouncer's admin_users",
                ) from None

    def _entry(self) -> Entry:
        path = self._config or self._own_config()
        entry = config_file.find(path, self._pool)
        if entry is None:
            raise Refused(
                f"pool {self._pool} has no entry under [databases]",
                why=f"neither in {path} nor in what it includes",
                fix="name PgBouncer's file with --pgbouncer-config, or give the pool an entry of its own",
            )
        return entry

    def _own_config(self) -> Path:
        told = next((r["value"] for r in self._console.run("SHOW CONFIG") if r["key"] == "conffile"), "")
        if not Path(told).is_absolute():
            raise Refused(
                "PgBouncer's configuration file is not known",
                why=f"it was started with {told or 'none'!r}, relative to a folder of its own",
                fix="name it with --pgbouncer-config",
            )
        return Path(told)

    # Holding and leading ------------------------------------------------------------------------------

    def pause(self, deadline: float) -> None:
        """PAUSE, or RESUME at once when transactions are still under way at the deadline."""
        try:
            self._console.run(f"PAUSE {double_quoted(self._pool)}", seconds=max(0.0, deadline - time.monotonic()))
        except TimedOut:
            self.resume()
            raise CutoverAborted(
                "given up: the pool's transactions did not end in time",
                why=f"PAUSE of pool {self._pool} was still waiting when --max-write-pause ran out",
                fix="end the long transactions, or wait for a quieter moment; the pool goes on as before",
            ) from None
        failpoint("pooler.paused")

    def repoint(self) -> None:
        """The file first, so that a restart of PgBouncer finds it; then RELOAD, and a look at what came of it.

        :raises CutoverUnfinished: when PgBouncer does not take it; the same command tries again.
        """
        entry = self._entry()
        if config_file.address(entry.value, self._pool) != self._to:
            config_file.replace(entry.path, entry.changed(config_file.repointed(entry.value, self._to)))
            failpoint("pooler.rewritten")
        if _address(self._status()) != self._to:
            self._console.run("RELOAD")
            failpoint("pooler.reloaded")
        status = self._status()
        if _address(status) != self._to:
            raise CutoverUnfinished(
                f"pool {self._pool} does not lead to the database that serves yet",
                why=f"after RELOAD it still leads to {_address(status)}; {entry.path} says {self._to}",
                fix="look into PgBouncer's log, mend its configuration, then run the same command again",
            )
        if status["paused"] == "0":
            self._wait_for_old_connections()

    def _wait_for_old_connections(self) -> None:
        """They are closed as their transactions end; a paused pool has none."""
        deadline = time.monotonic() + CLOSING_SECONDS
        while time.monotonic() < deadline:
            servers = self._console.run("SHOW SERVERS")
            if not any(r["database"] == self._pool and r.get("close_needed") == "1" for r in servers):
                return
            time.sleep(0.05)

    def resume(self) -> None:
        """RESUME where it is paused; once more where the console was lost on the way."""
        try:
            self._resume()
        except CannotConnect:
            self._resume()
        failpoint("pooler.resumed")

    def _resume(self) -> None:
        if self._status()["paused"] != "0":
            self._console.run(f"RESUME {double_quoted(self._pool)}")


def _address(status: dict[str, str]) -> Address:
    return Address(status["host"] or None, int(status["port"] or config_file.DEFAULT_PORT), status["database"])
