"""A stateful property: any commands in any order, killed anywhere, while the application writes between them.

A model contains each acknowledged write. At any time, the database that takes writes has exactly the rows of the
model, and at most one database takes writes.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from confiture.journal.model import LEASE_SECONDS
from confiture.postgres.embedded import Server
from forked import Forks, Running, until
from live import LiveRun
from servers import Databases, TestDatabase, back_up, restore

INSERT_ROWS = "INSERT INTO item SELECT n, n FROM generate_series(1, 30) n;"
PLAIN = f"CREATE TABLE item (id int PRIMARY KEY, n int); {INSERT_ROWS}"
#: The bounds of the partition that a rule detaches and attaches again.
HIGH = "FOR VALUES FROM (20) TO (MAXVALUE)"
PARTITIONED = f"""
CREATE TABLE item (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (MINVALUE) TO (20);
CREATE TABLE item_high PARTITION OF item {HIGH}; {INSERT_ROWS}
"""
#: The opening enables the rule, which conflicts with readers.
NEW = """
CREATE TABLE item (id bigint PRIMARY KEY, amount bigint); CREATE INDEX ON item (amount);
CREATE RULE kept AS ON DELETE TO item WHERE false DO ALSO NOTHING;
"""
MAPPING = "item: {n: amount}\n"
STEPS = ("setup", "migrate", "verify", "cutover", "rollback", "cleanup", "abort", "pause", "resume")
#: Exit codes of success and of every expected failure, but never 1, a defect. 2 also occurs if a killed setup has not
#: recorded the mapping.
CODES = {0, 2, 4, 6, 7, 8, 9, 10, 128 + signal.SIGTERM}
#: The command may also be killed at a crash point, or lose its connection or its workers there or by a takeover.
KILLED_CODES = CODES | {-signal.SIGKILL, 3, 5}
PAUSED = "paused on request"
WAITING = "waiting for a lock on"
#: Makes the lease expire.
EXPIRE_LEASE = f"""
SET lock_timeout = '1s';
UPDATE confiture.runner SET heartbeat_at = heartbeat_at - interval '{LEASE_SECONDS + 1} s' WHERE ended_at IS NULL
"""
#: The commands that lead from any state to the cutover.
TO_CUTOVER = ("resume", "setup", "migrate", "verify", "cutover")


class AnyCommands(RuleBasedStateMachine):
    """A run on which any command, kill and change is executed.

    :cvar server: the server of the source, set by a subclass.
    :cvar target_server: the server of the target, which may be the same one.
    :cvar forks: starts commands, set by a subclass.
    """

    server: Server
    target_server: Server
    forks: Forks

    @initialize(partitioned=st.booleans(), jobs=st.sampled_from((1, 1, 1, 2)))
    def begin(self, partitioned: bool, jobs: int) -> None:
        self.databases = Databases(self.server)
        self.apart = Databases(self.target_server)
        self.folder = tempfile.TemporaryDirectory()
        self.live = LiveRun(
            self.databases,
            Path(self.folder.name, "project"),
            PARTITIONED if partitioned else PLAIN,
            NEW,
            MAPPING,
            apart=self.apart,
            chunk_rows=8,
        )
        self.partitioned = partitioned
        self.jobs = jobs
        self.readers: list[psycopg.Connection[Any]] = []
        self._said = ""
        self.model = {n: n for n in range(1, 31)}

    # The application -----------------------------------------------------------------------------------

    @rule(key=st.integers(1, 40), value=st.integers(0, 9))
    def put(self, key: int, value: int) -> None:
        statement = "INSERT INTO item VALUES ({0}, {1}) ON CONFLICT (id) DO UPDATE SET {2} = {1}"
        if self._written(statement, key, value):
            self.model[key] = value

    @rule(key=st.integers(1, 40), other=st.integers(41, 50))
    def move(self, key: int, other: int) -> None:
        if (
            key in self.model
            and other not in self.model
            and self._written("UPDATE item SET id = {1} WHERE id = {0}", key, other)
        ):
            self.model[other] = self.model.pop(key)

    @rule(key=st.integers(1, 50))
    def delete(self, key: int) -> None:
        if self._written("DELETE FROM item WHERE id = {0}", key):
            self.model.pop(key, None)

    @rule()
    def truncate(self) -> None:
        # TRUNCATE waits for open readers, hence the lock timeout.
        if self._written("SET lock_timeout = '200ms'; TRUNCATE item"):
            self.model.clear()

    def _written(self, statement: str, *values: int) -> bool:
        """Write to the database that takes writes; False if none does."""
        sides = self._open()
        if not sides:
            return False
        side = "source" if "source" in sides else "target"
        column = {"source": "n", "target": "amount"}[side]
        try:
            self._database(side).sql(statement.format(*values, column))
        except psycopg.errors.LockNotAvailable:
            return False
        return True

    # The operator --------------------------------------------------------------------------------------

    @rule(step=st.sampled_from(STEPS))
    def command(self, step: str) -> None:
        self._command(step)

    @precondition(lambda self: self._state() != "setup" or self._open() == {"source"})
    @rule()
    def next_command(self) -> None:
        """Run the next command, so that runs reach later states."""
        following = {"migrating": "migrate", "verified": "cutover", "cutover": "cleanup"}
        state = self._state()
        self._command("setup" if state in (None, "setup", "aborted") else following.get(state, "verify"))
        if state == "migrating":
            self._command("verify")

    @rule(
        step=st.sampled_from(STEPS[:7]),
        point=st.sampled_from(("commit.before", "commit.after", "commit.lost")),
        hit=st.integers(1, 60),
    )
    def killed(self, step: str, point: str, hit: int) -> None:
        self._command(step, CONFITURE_FAILPOINT=f"{point}:{hit}")

    @rule(step=st.sampled_from(("cutover", "rollback")))
    def killed_between_closing_and_opening(self, step: str) -> None:
        self._command(step, CONFITURE_FAILPOINT="switch.after_point_of_no_return")

    @precondition(lambda self: self._state() is not None)
    @rule(step=st.sampled_from(STEPS[:7]), other=st.sampled_from(STEPS[:7]), hit=st.integers(1, 60))
    def frozen(self, step: str, other: str, hit: int) -> None:
        """Freeze a command anywhere, let another command take the run over, and wake the first one up."""
        running = self.forks.start(self._arguments(step), self.live.project)
        until(lambda: self._ended_or_paused(running) or running.passed >= hit, f"{hit} points of {step}")
        running.signal(signal.SIGSTOP)
        try:
            self.live.target.sql(EXPIRE_LEASE)
        except psycopg.errors.LockNotAvailable:
            time.sleep(LEASE_SECONDS + 1)  # the frozen command holds the lock of this row
        self._command(other)
        running.signal(signal.SIGCONT)
        self._end(running, step, KILLED_CODES)

    # Other sessions ------------------------------------------------------------------------------------

    @precondition(lambda self: "source" in self._open())
    @rule()
    def triggers_toggled(self) -> None:
        """Disable capture and the write block for a moment. Afterwards the triggers look unchanged."""
        self.live.source.sql("ALTER TABLE item DISABLE TRIGGER ALL; ALTER TABLE item ENABLE TRIGGER ALL")

    @rule(value=st.integers(0, 9))
    def written_while_disabled(self, value: int) -> None:
        """Write to the source while its capture is disabled."""
        if "source" in self._open():
            off, on = (f"ALTER TABLE item {how} TRIGGER ALL" for how in ("DISABLE", "ENABLE"))
            self.live.source.sql(f"{off}; UPDATE item SET n = {value} WHERE id < 4; {on}")
            self.model |= {key: value for key in (1, 2, 3) if key in self.model}

    @precondition(lambda self: self.partitioned and "source" in self._open())
    @rule(value=st.integers(0, 9), how=st.sampled_from(("detached", "disabled")))
    def partition_written_without_capture(self, value: int, how: str) -> None:
        """Write to a partition in a transaction in which no trigger of its table fires for it."""
        off, on = {
            "detached": (
                "ALTER TABLE item DETACH PARTITION item_high",
                f"ALTER TABLE item ATTACH PARTITION item_high {HIGH}",
            ),
            "disabled": (f"ALTER TABLE item_high {how} TRIGGER ALL" for how in ("DISABLE", "ENABLE")),
        }[how]
        if self._written(f"SET lock_timeout = '200ms'; {off}; UPDATE item_high SET n = {value} WHERE id < 23; {on}"):
            self.model |= {key: value for key in (20, 21, 22) if key in self.model}

    @precondition(lambda self: len(self.readers) < 2)
    @rule(side=st.sampled_from(("source", "target")))
    def reader_stays(self, side: str) -> None:
        """Open a transaction that reads the table, and keep it open."""
        with contextlib.suppress(psycopg.Error):  # the table does not exist yet
            reader = self._database(side).connect(autocommit=False)
            reader.execute("SELECT count(*) FROM item")
            self.readers.append(reader)

    @precondition(lambda self: self.readers)
    @rule()
    def readers_end(self) -> None:
        self._end_readers()

    def _end_readers(self) -> None:
        while self.readers:
            self.readers.pop().close()

    @precondition(lambda self: "source" in self._open())
    @rule(here=st.booleans())
    def table_created_or_dropped(self, here: bool) -> None:
        self.live.source.sql("CREATE TABLE IF NOT EXISTS extra (id int)" if here else "DROP TABLE IF EXISTS extra")

    @precondition(lambda self: self._state() in ("migrating", "verified"))
    @rule()
    def trigger_in_the_target(self) -> None:
        """Create a trigger in the target that would change the rows of each pass."""
        self.live.target.sql(
            "CREATE OR REPLACE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN NEW.amount = -1; RETURN NEW; END'; CREATE OR REPLACE TRIGGER spoil BEFORE INSERT ON item"
            " FOR EACH ROW EXECUTE FUNCTION spoil(); ALTER TABLE item ENABLE ALWAYS TRIGGER spoil"
        )

    @rule()
    def restarted(self) -> None:
        """Restart the table, which unblocks the run after such a change."""
        self._restart()

    def _restart(self) -> int:
        self._end_readers()
        with contextlib.suppress(psycopg.Error):  # the table does not exist yet
            self.live.target.sql("DROP TRIGGER IF EXISTS spoil ON item")
        line = [*self._arguments("migrate"), "--restart-table", "public.item"]
        return self._end(self.forks.start(line, self.live.project), "restart")

    def _arguments(self, step: str) -> list[str]:
        short = ("--give-up-after", "1") if step in ("cutover", "rollback") else ()
        jobs = ("--jobs", str(self.jobs)) if step == "migrate" else ()
        return [*self.live.arguments(step), *short, *jobs]

    def _command(self, step: str, **environment: str) -> int:
        running = self.forks.start(self._arguments(step), self.live.project, **environment)
        return self._end(running, f"{step} {environment}", KILLED_CODES if environment else CODES)

    def _end(self, running: Running, step: str, allowed: set[int] = CODES) -> int:
        until(lambda: self._ended_or_paused(running), f"the end of {step}")
        running.signal(signal.SIGTERM)  # a paused command waits for resume
        ended = running.wait()
        assert ended.code in allowed, f"{step}: exit {ended.code}\n{ended.out}\n{ended.err}"
        self._said += ended.err
        return ended.code

    def _ended_or_paused(self, running: Running) -> bool:
        said = running.err.read_text()
        if WAITING in said:  # for minutes: it names the readers, and the operator ends them
            self._end_readers()
        return not running.alive or PAUSED in said

    # Invariants ----------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_side_is_open(self) -> None:
        # Before the end of setup, the application does not use the target.
        assert len(self._open()) <= 1 or self._state() in (None, "setup", "aborted"), (
            f"both sides are open in state {self._state()}"
        )

    @invariant()
    def no_write_is_lost(self) -> None:
        served = (
            "source"
            if "source" in self._open() or self._state() in (None, "setup", "migrating", "verified")
            else "target"
        )
        if served == "target" and not self._open():
            return  # an unfinished switchover: checked below after its end
        assert dict(self._database(served).rows("TABLE item")) == self.model, f"{served} in {self._state()}"

    def teardown(self) -> None:
        """Check that the same commands lead from any state to the cutover."""
        if not hasattr(self, "live"):
            return
        try:
            self._end_readers()
            self.live.source.sql("DROP TABLE IF EXISTS extra")
            while self._state() not in ("cutover", "cleaned") or self._open() != {"target"}:
                before, self._said = self._state(), ""
                codes = [self._command(step) for step in TO_CUTOVER]
                if before in ("migrating", "verified") and codes[-1] != 0:  # blocked by a change
                    self._restart()
                    codes = [self._command(step) for step in TO_CUTOVER]
                # The only command that is possible after an unfinished one, or where a server has lost changes.
                codes += [self._command(step) for step in ("abort", "rollback") if f"{step} --target" in self._said]
                assert self._state() != before or codes[-1] == 0, f"stuck in {before}: {codes}\n{self._said}"
            assert dict(self.live.target.rows("TABLE item")) == self.model
        finally:
            self._end_readers()
            self.databases.drop_all()
            self.apart.drop_all()
            self.folder.cleanup()

    def _database(self, side: str) -> TestDatabase:
        return self.live.source if side == "source" else self.live.target

    def _open(self) -> set[str]:
        found = set()
        for side in ("source", "target"):
            try:
                with self._database(side).connect(autocommit=False) as probe:
                    probe.execute("INSERT INTO item (id) VALUES (-1)")
                    probe.rollback()
                found.add(side)
            except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.UndefinedTable, psycopg.OperationalError):
                continue  # closed, or the table does not exist yet
        return found

    def _state(self) -> str | None:
        try:
            return self.live.state
        except (psycopg.errors.UndefinedTable, psycopg.OperationalError, IndexError):
            return None


@dataclass(frozen=True, slots=True)
class Copy:
    """The files of a server, with the acknowledged writes of that time."""

    files: Path
    model: dict[int, int]
    run: str | None


class WithRestores(AnyCommands):
    """The same, with servers that are restored to an earlier state.

    A copy is discarded when another side begins to take writes: the application would have been redirected since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[str, Copy] = {}
        self.serving = {"source"}

    @rule(side=st.sampled_from(("source", "target")))
    def backed_up(self, side: str) -> None:
        self._end_readers()
        self._discard(side)
        self.copies[side] = Copy(back_up(self._database(side).server), dict(self.model), self._run())

    @rule(
        side=st.sampled_from(("source", "target")),
        steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=3),
        value=st.integers(0, 9),
        interrupted=st.booleans(),
    )
    def restored_to_before(self, side: str, steps: list[str], value: int, interrupted: bool) -> None:
        """Restore a server to before some commands and a write, and ``interrupted`` a switchover that is killed."""
        self.backed_up(side)
        for step in steps:
            self.put(1, value)
            self._command(step)
            self.copies_are_of_the_same_run_and_side()
        if interrupted:
            self.killed_between_closing_and_opening("cutover" if "source" in self.serving else "rollback")
        self.restored(side)

    @precondition(lambda self: self.copies)
    @rule(side=st.sampled_from(("source", "target")))
    def restored(self, side: str) -> None:
        if side not in self.copies:
            return
        self._end_readers()
        copy = self.copies.pop(side)
        restore(self._database(side).server, copy.files)
        if side in self.serving:
            self.model = copy.model

    @invariant()
    def copies_are_of_the_same_run_and_side(self) -> None:
        serving = self._open()
        if serving and serving != self.serving:
            self.serving = serving
            for side in ("source", "target"):
                self._discard(side)
        for side in [side for side, copy in self.copies.items() if copy.run != self._run()]:
            self._discard(side)

    def _run(self) -> str | None:
        try:
            rows = self.live.target.rows("SELECT id::text FROM confiture.run ORDER BY started_at DESC LIMIT 1")
        except (psycopg.errors.UndefinedTable, psycopg.OperationalError):
            return None
        return str(rows[0][0]) if rows else None

    def _discard(self, side: str) -> None:
        copy = self.copies.pop(side, None)
        if copy is not None:
            shutil.rmtree(copy.files)

    def teardown(self) -> None:
        for side in ("source", "target"):
            self._discard(side)
        super().teardown()
