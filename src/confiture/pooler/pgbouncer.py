"""The pooler protocol for PgBouncer: PAUSE the pool, redirect it by its configuration file and RELOAD, RESUME it.

PAUSE takes effect when it is sent, and stays in effect after the console disconnects. Confiture resumes the pool, if
necessary when the same command is run again after a crash; an administrator can resume it too. With transaction
pooling, PAUSE waits for the running transactions. With session pooling it would wait until every client has
disconnected, so session pooling is refused.
https://www.pgbouncer.org/usage.html
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from confiture.config import Database
from confiture.errors import CannotConnect, CutoverAborted, CutoverUnfinished, Refused
from confiture.failpoints import failpoint
from confiture.pooler import Pool, config_file
from confiture.pooler.config_file import Address, Entry
from confiture.pooler.console import Console, Failed, TimedOut
from confiture.types import double_quoted

#: Seconds to wait until the connections to the old database are closed, if the pool was not paused.
CLOSING_SECONDS = 10.0


class PgBouncer:
    """One pool of a PgBouncer whose configuration file can be written from this machine.

    :param to: the database that the pool points to after :meth:`repoint`.
    """

    def __init__(self, pool: Pool, to: Address) -> None:
        self._console = Console(pool.conninfo)
        self._pool = pool.name
        self._config = pool.config
        self._to = to

    @property
    def name(self) -> str:
        """The name for messages and the journal."""
        return f"pool {self._pool} of PgBouncer ({self._console.public})"

    def close(self) -> None:
        """Close the console."""
        self._console.close()

    # Before anything is changed -----------------------------------------------------------------------

    def check(self) -> None:
        """Check that the role is an administrator, that the pool exists and can be paused, and that its entry can
        be rewritten.

        :raises Refused: one of these does not hold; the error names it.
        """
        status = self._status()
        self._refuse_session_pooling(status)
        self._refuse_no_administrator(status)
        entry = self._entry()
        config_file.refuse_unwritable(entry.path)
        written = config_file.address(entry.value, self._pool)
        if written not in (_address(status), self._to):
            raise Refused(
                f"{entry.path} does not match PgBouncer's running configuration",
                why=f"pool {self._pool} points to {_address(status)}, but in the file it points to {written}",
                fix="run RELOAD, or name PgBouncer's file with --pgbouncer-config",
            )

    def leads_to(self, like: Database) -> Database:
        """The database that the pool points to now, with the role and password of ``like``."""
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
            fix="name one with --pool; a pool created by the * entry needs an entry of its own under [databases]",
        )

    def _refuse_session_pooling(self, status: dict[str, str]) -> None:
        default = next(r["value"] for r in self._console.run("SHOW CONFIG") if r["key"] == "pool_mode")
        # A user may have a pool_mode of its own, which only the existing pools show.
        modes = {r["pool_mode"] for r in self._console.run("SHOW POOLS") if r["database"] == self._pool}
        if "session" in (modes or {status["pool_mode"] or default}):
            raise Refused(
                f"pool {self._pool} uses session pooling",
                why="PAUSE would wait until every client has disconnected",
                fix="set pool_mode = transaction, or cut over without --pgbouncer and restart the application",
            )

    def _refuse_no_administrator(self, status: dict[str, str]) -> None:
        if status["paused"] != "0":
            return
        try:
            # The pool is not paused, so an administrator gets the error "not paused", and any other role a refusal.
            self._console.run(f"RESUME {double_quoted(self._pool)}")
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
                why=f"neither {path} nor a file that it includes has one",
                fix="name PgBouncer's file with --pgbouncer-config, or add an entry for the pool",
            )
        return entry

    def _own_config(self) -> Path:
        shown = next((r["value"] for r in self._console.run("SHOW CONFIG") if r["key"] == "conffile"), "")
        if not Path(shown).is_absolute():
            raise Refused(
                "PgBouncer's configuration file is not known",
                why=f"it was started with {shown or 'none'!r}, relative to its working directory",
                fix="name the file with --pgbouncer-config",
            )
        return Path(shown)

    # Pause, redirect, resume --------------------------------------------------------------------------

    def pause(self, deadline: float) -> None:
        """PAUSE the pool; RESUME it if transactions are still running at the deadline."""
        try:
            self._console.run(f"PAUSE {double_quoted(self._pool)}", seconds=max(0.0, deadline - time.monotonic()))
        except TimedOut:
            self.resume()
            raise CutoverAborted(
                "aborted: the pool's transactions did not end in time",
                why=f"PAUSE of pool {self._pool} was still waiting after --max-write-pause",
                fix="end the long transactions, or retry when there is less load; the pool was resumed",
            ) from None
        failpoint("pooler.paused")

    def repoint(self) -> None:
        """Write the file, so that the redirection survives a restart of PgBouncer; then RELOAD and check the result.

        :raises CutoverUnfinished: PgBouncer has not taken over the new address; the same command retries.
        """
        entry = self._entry()
        if config_file.address(entry.value, self._pool) != self._to:
            self._write(entry)
            failpoint("pooler.rewritten")
        if _address(self._status()) != self._to:
            self._console.run("RELOAD")
            failpoint("pooler.reloaded")
        status = self._status()
        if _address(status) != self._to:
            raise CutoverUnfinished(
                f"pool {self._pool} does not point to the database that is serving yet",
                why=f"after RELOAD it still points to {_address(status)}; in {entry.path} it points to {self._to}",
                fix="check PgBouncer's log, correct its configuration, then run the same command again",
            )
        if status["paused"] == "0":
            self._wait_for_old_connections()

    def _write(self, entry: Entry) -> None:
        try:
            config_file.replace(entry.path, entry.changed(config_file.repointed(entry.value, self._to)))
        except OSError as error:
            raise CutoverUnfinished(
                f"{entry.path} cannot be replaced, so that pool {self._pool} does not point to {self._to} yet",
                why=str(error),
                fix="correct this, then run the same command again",
            ) from error

    def _wait_for_old_connections(self) -> None:
        """PgBouncer closes the old connections as their transactions end. A paused pool has none."""
        deadline = time.monotonic() + CLOSING_SECONDS
        while time.monotonic() < deadline:
            servers = self._console.run("SHOW SERVERS")
            if not any(r["database"] == self._pool and r.get("close_needed") == "1" for r in servers):
                return
            time.sleep(0.05)

    def resume(self) -> None:
        """RESUME the pool if it is paused; retry once if the connection to the console was lost."""
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
