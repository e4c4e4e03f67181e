"""Interruptions of a migrate, and how the same command continues: rivals, signals, DDL, lost connections."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

import small_move
from confiture import config
from confiture.commands.migrate import execute as migrate
from confiture.commands.options import RunOptions
from confiture.errors import Held, Refused
from confiture.journal import leases, runs
from confiture.journal.model import LEASE_SECONDS
from confiture.plan.model import Plan
from confiture.postgres import embedded, session
from confiture.postgres.embedded import Server
from confiture.postgres.session import Session
from confiture.runner import begin, lease
from confiture.runner import context as runner_context
from confiture.runner.context import Context
from confiture.runner.progress import Silent
from confiture.runner.run_facts import RunFacts
from confiture.runner.stop import Stop
from confiture.schema_to_schema import plan_store
from confiture.types import in_plain_words
from forked import Forks, Running, until
from servers import Databases, TestDatabase
from small_move import MAPPING, SmallMove

TAKEN_OVER = "another runner has taken this run over"


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    """A run that is set up with its mapping. No row is copied."""
    made = small_move.make(databases, tmp_path)
    made.setup()
    return made


def start(forks: Forks, move: SmallMove, *options: str, heartbeat: float | None = None, **environment: str) -> Running:
    """A migrate as a process of its own."""
    return forks.start(move.arguments("migrate", *options), move.project, heartbeat=heartbeat, **environment)


@contextmanager
def stuck(
    forks: Forks, move: SmallMove, on: str = "target", heartbeat: float | None = None, **environment: str
) -> Iterator[Running]:
    """A migrate that waits for a lock in the middle of its first chunk of ``post``; the lock is released at the end.

    Blocked on the target, it has copied rows and holds both epochs' rows. Blocked on the source, it is about to read.
    """
    database, table = (move.target, "post") if on == "target" else (move.source, "tb_post")
    with database.connect(autocommit=False) as blocker:
        blocker.execute(f"LOCK TABLE {table} IN {'SHARE' if on == 'target' else 'ACCESS EXCLUSIVE'} MODE".encode())
        running = start(forks, move, heartbeat=heartbeat, **environment)
        until(lambda: waits(database), "migrate to wait for the lock")
        yield running
        blocker.rollback()


def waits(database: TestDatabase) -> bool:
    """Whether a session of this database waits for a lock."""
    activity = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(database.rows(activity))


def lapse(move: SmallMove) -> None:
    """Age the lease, as if it had not been renewed."""
    move.target.sql(
        f"UPDATE confiture.runner SET heartbeat_at = heartbeat_at - interval '{LEASE_SECONDS + 1} s'"
        " WHERE ended_at IS NULL"
    )


def assert_finishes(move: SmallMove, databases: Databases) -> None:
    """Assert that the same command finishes the migration, and that every row is present exactly once."""
    move.run("migrate")
    move.finish()
    move.assert_every_row_arrived_once()
    move.assert_rows_and_checkpoints_agree()
    move.assert_as_designed(databases)
    move.assert_nothing_is_left()


# The lease -----------------------------------------------------------------------------------------


def test_a_second_migrate_names_the_living_holder_and_exits_6(
    forks: Forks, move: SmallMove, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stuck(forks, move, heartbeat=0.2) as holder:
        second = move.run("migrate", code=6)
        assert f"is held by {socket.gethostname()} pid {holder.pid} (migrate)" in second.err
    assert holder.wait().code == 0


def test_a_command_that_waits_for_a_silent_holder_continues_after_it(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    with stuck(forks, move) as holder:
        second = start(forks, move)
        second.until_said(f"held by {socket.gethostname()} pid {holder.pid}; waiting")
    assert [holder.wait().code, second.wait().code] == [0, 0]
    assert_finishes(move, databases)


def test_of_ten_concurrent_migrates_one_copies_and_nine_exit_6(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    with stuck(forks, move, heartbeat=0.2) as holder:
        ended = [r.wait() for r in [start(forks, move, heartbeat=0.2) for _ in range(9)]]
        assert [e.code for e in ended] == [6] * 9
        assert all(f"pid {holder.pid}" in e.err for e in ended)
    assert holder.wait().code == 0
    assert_finishes(move, databases)


def test_ten_migrates_that_start_together_copy_every_row_once(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    ended = [r.wait() for r in [start(forks, move, heartbeat=0.2) for _ in range(10)]]
    assert {e.code for e in ended} <= {0, 6}
    assert 0 in {e.code for e in ended}
    assert not any(TAKEN_OVER in e.err for e in ended)
    move.assert_rows_and_checkpoints_agree()
    assert_finishes(move, databases)


def test_ten_setups_that_start_together_begin_one_run(forks: Forks, databases: Databases, tmp_path: Path) -> None:
    move = small_move.make(databases, tmp_path)
    setup = move.arguments("setup", "--mapping", str(move.mapping))
    ended = [r.wait() for r in [forks.start(setup, move.project, heartbeat=0.2) for _ in range(10)]]
    assert {e.code for e in ended} <= {0, 6}, "\n".join(f"{e.code} {e.err}" for e in ended)
    assert move.target.value("SELECT count(*) FROM confiture.run") == 1
    assert_finishes(move, databases)


@contextmanager
def contender(move: SmallMove) -> Iterator[tuple[Session, Session]]:
    """Sessions on both databases, as a process opens them before it holds the run."""
    source, target = (config.resolve(name, move.project) for name in ("old", move.target.name))
    with Session(source, "test") as src, Session(target, "test") as tgt:
        yield src, tgt


def take(move: SmallMove, sessions: tuple[Session, Session], say: Callable[[str], None] = lambda text: None) -> Context:
    """Hold the run with these sessions, without a heartbeat."""
    with sessions[1].transaction() as tx:
        run = runs.live(tx)
    assert run is not None
    epoch = lease.take(*sessions, run, "test", say)
    return Context(*sessions, RunFacts(run.id, epoch, run.target_name, *(session.database for session in sessions)))


def test_late_rival_does_not_raise_the_epoch_above_that_of_the_winner(move: SmallMove) -> None:
    """It has seen the dead holder, but another contender takes the run first. The source's epoch must not change."""
    with contender(move) as frozen, contender(move) as quick, contender(move) as late:
        take(move, frozen)
        lapse(move)
        won: list[Context] = []

        def overtake(text: str) -> None:
            if "taking over" in text:
                won.append(take(move, quick))

        with pytest.raises(Held):
            take(move, late, overtake)
        (winner,) = won
        assert move.source_epoch() == move.journal("epoch") == winner.epoch
        with winner.fenced_source("test"), winner.fenced("test"):
            pass


def test_process_frozen_while_it_takes_a_run_blocks_others_only_briefly(
    move: SmallMove, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its session. No takeover could, because the session is not recorded yet."""
    monkeypatch.setattr(session, "CLAIM_TIMEOUT", "300ms")
    gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name ~ 'runner$' AND xact_start < %s"

    def freeze(name: str) -> None:
        monkeypatch.setattr(session, "failpoint", lambda _: None)
        with move.target.connect() as looking:
            now = looking.execute("SELECT clock_timestamp()").fetchone()
            until(
                lambda: looking.execute(gone.encode(), now).fetchone() == (True,),
                "the server to end the frozen session",
            )

    monkeypatch.setattr(session, "failpoint", freeze)
    with move.holding() as held, held.fenced("test"), held.fenced_source("test"):
        pass


def test_a_setup_names_the_session_of_another_setup_that_is_frozen(
    move: SmallMove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begin, "EXCLUSIVE_SECONDS", 0.3)
    with move.target.connect() as frozen:
        frozen.execute("SELECT pg_advisory_lock(%s)", (begin._INSTALL_LOCK,))
        err = move.run("setup", code=6).err
        assert f"its server process is {frozen.info.backend_pid}" in err


def test_resumed_process_reports_takeover_after_abort(move: SmallMove) -> None:
    """The abort has ended its sessions and dropped the objects that they use."""

    def sleep_too_long() -> None:
        with move.holding() as held:
            lapse(move)
            move.run("abort", "--yes")
            with suppress(psycopg.OperationalError), held.fenced_source("test"):
                pass
            with held.fenced_source("test"):
                pass

    with pytest.raises(Held, match=TAKEN_OVER) as taken_over:
        sleep_too_long()
    assert isinstance(taken_over.value.__context__, psycopg.errors.UndefinedTable)


@pytest.mark.parametrize("on", ["source", "target"])
def test_frozen_holder_is_taken_over_after_its_lease_and_writes_no_more(
    forks: Forks, move: SmallMove, databases: Databases, on: str
) -> None:
    with stuck(forks, move, on) as frozen:
        frozen.signal(signal.SIGSTOP)
    # Its lock is granted here. Its transactions stay open, and would stay open forever.
    before = move.journal("epoch")
    lapse(move)
    taken = move.run("migrate")
    assert f"taking over from {socket.gethostname()} pid {frozen.pid}" in taken.err
    assert move.source_epoch() == move.journal("epoch") == before + 1
    done = everything(move)

    frozen.signal(signal.SIGCONT)
    ended = frozen.wait()
    assert ended.code == 6, ended.err
    assert TAKEN_OVER in ended.err
    assert everything(move) == done
    assert_finishes(move, databases)


def everything(move: SmallMove) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the target's tables and of the journal, with the transaction that wrote it."""
    names = move.target.rows(
        "SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r' AND nspname IN ('public', 'confiture')"
    )
    return {name: move.target.rows(f"SELECT xmin, t::text FROM {name} t ORDER BY 2") for (name,) in names}


def test_a_cutover_frozen_under_its_lock_releases_it_on_takeover(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    """Its lock blocks the application, and the process that takes the run over."""
    move.run("migrate")
    move.run("verify")
    with move.target.connect(autocommit=False) as blocker:
        # The cutover updates this row last, while it holds the lock on the source.
        blocker.execute("SELECT FROM confiture.deferred_object WHERE kind = 'trigger' FOR UPDATE")
        frozen = forks.start(move.arguments("cutover"), move.project)
        held = "SELECT 1 FROM pg_locks WHERE relation = 'tb_post'::regclass AND mode = 'ShareRowExclusiveLock'"
        until(lambda: move.source.rows(held) and waits(move.target), "the cutover to wait under its lock")
        frozen.signal(signal.SIGSTOP)
        blocker.rollback()
    lapse(move)
    move.run("cutover")
    frozen.signal(signal.SIGCONT)
    assert frozen.wait().code in (3, 6)
    assert move.target.value("SELECT count(*) FROM confiture.event WHERE to_state = 'cutover'") == 1
    move.run("cleanup")
    move.assert_every_row_arrived_once()
    move.assert_as_designed(databases)
    move.assert_nothing_is_left()


def test_a_zombie_is_refused_on_either_side(move: SmallMove) -> None:
    with contender(move) as mine, contender(move) as other, contender(move) as reconnected:
        old = take(move, mine)
        lapse(move)
        new = take(move, other)
        assert new.epoch == old.epoch + 1
        zombie = Context(*reconnected, old.facts)
        for fenced in (zombie.fenced, zombie.fenced_source):
            with pytest.raises(Held, match=TAKEN_OVER), fenced("test"):
                pytest.fail("the fence admitted it")
        for session in mine:
            with pytest.raises(psycopg.OperationalError), session.transaction():
                pytest.fail("its session was not ended")


def test_a_holder_on_another_machine_is_judged_by_the_server_alone(move: SmallMove) -> None:
    """The decision uses the server's sessions and clock only, not the process id."""
    with contender(move) as mine, contender(move) as other:
        held = take(move, mine)
        move.target.sql("UPDATE confiture.runner SET host = 'elsewhere', pid = 999999 WHERE ended_at IS NULL")

        def beat(text: str) -> None:
            move.target.sql("UPDATE confiture.runner SET heartbeat_at = clock_timestamp() WHERE ended_at IS NULL")

        with pytest.raises(Held, match="is held by elsewhere pid 999999"):
            take(move, other, beat)
        with held.fenced("test"), held.fenced_source("test"):
            pass


def test_a_holder_that_reopens_its_session_is_still_alive(move: SmallMove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.1)
    with move.holding() as holder, contender(move) as other:
        holder.target.close()
        with pytest.raises(Held, match="is held by"):
            take(move, other)


def test_a_holder_that_lost_its_lease_stops_at_the_next_checkpoint(move: SmallMove) -> None:
    with move.holding() as old:
        old.lost.set()
        with pytest.raises(Held, match=TAKEN_OVER):
            old.checkpoint()


def test_the_heartbeat_detects_a_lost_lease(move: SmallMove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    with move.holding() as old:
        move.target.sql("UPDATE confiture.runner SET ended_at = now(), ended_why = 'taken over' WHERE ended_at IS NULL")
        assert old.lost.wait(timeout=10)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_database_that_is_not_the_one_the_run_began_with_is_refused(move: SmallMove, side: str) -> None:
    """As after a restore, or if the name refers to another server than before."""
    move.target.sql(f"UPDATE confiture.run SET {side}_identity = {side}_identity || '{{\"oid\": 1}}'")
    failed = move.run("migrate", code=4)
    assert f"the {side} is not the database that the run began with" in failed.err
    assert move.chunks("post") == []


# Signals and requests ------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_the_command_after_the_current_chunk(
    forks: Forks, move: SmallMove, databases: Databases, number: signal.Signals, code: int
) -> None:
    with stuck(forks, move) as running:
        running.signal(number)
        running.until_passed("signal.heard")
    ended = running.wait()
    assert ended.code == code
    assert f"stopped by {number.name}; completed work is kept" in ended.err
    assert [status for status, _ in move.chunks("post")].count("done") == 1
    assert_finishes(move, databases)


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stop()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert stop.signal_number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_cancels_the_chunk(forks: Forks, move: SmallMove, databases: Databases) -> None:
    with stuck(forks, move) as running:
        running.signal(signal.SIGTERM)
        running.until_passed("signal.heard")
        running.signal(signal.SIGTERM)
        assert running.wait().code == 143
        assert move.target.value("SELECT ended_why FROM confiture.runner ORDER BY epoch DESC LIMIT 1").startswith(
            "Drained"
        )
    assert "done" not in [status for status, _ in move.chunks("post")]
    assert_finishes(move, databases)


def test_a_command_killed_while_it_handles_a_signal_can_be_repeated(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    with stuck(forks, move, CONFITURE_FAILPOINT="signal.heard") as running:
        running.signal(signal.SIGTERM)
        assert running.wait().code == -signal.SIGKILL
    assert_finishes(move, databases)


def test_a_signal_ends_the_command_of_a_paused_run_which_stays_paused(
    forks: Forks, move: SmallMove, databases: Databases
) -> None:
    move.run("pause")
    paused = start(forks, move)
    paused.until_said("paused on request")
    paused.signal(signal.SIGTERM)
    assert paused.wait().code == 143
    again = start(forks, move)
    again.until_said("paused on request")
    move.run("resume")
    assert again.wait().code == 0
    assert_finishes(move, databases)


# DDL on the source during the copy -----------------------------------------------------------------


class Between(Silent):
    """Calls a function between two chunks of ``post``, as many times as given."""

    def __init__(self, act: Callable[[], object], *, times: int = 1) -> None:
        self._act = act
        self._left = times

    def table(self, name: str, done: int, total: int, phase: str) -> None:
        """Called by migrate after each chunk."""
        if name == "post" and phase == "copying" and self._left:
            self._left -= 1
            self._act()


CHANGES = {
    "a new column": ("ALTER TABLE tb_post ADD COLUMN extra int", "is new: column extra (number 5) integer"),
    "emptied": ("TRUNCATE tb_post CASCADE", "storage of public.tb_post"),
    "rewritten": ("VACUUM FULL tb_post", "storage of public.tb_post"),
    "a trigger disabled": ("ALTER TABLE tb_post DISABLE TRIGGER noop", "trigger noop on public.tb_post (disabled)"),
    "a child": ("CREATE TABLE tb_child () INHERITS (tb_post)", "with children public.tb_child"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_ddl_between_two_chunks_blocks_the_run_and_the_change_is_reported(
    databases: Databases, tmp_path: Path, change: str
) -> None:
    statement, what = CHANGES[change]
    move = small_move.make(databases, tmp_path)
    move.source.sql(
        "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;"
        "CREATE TRIGGER noop BEFORE UPDATE ON tb_post FOR EACH ROW EXECUTE FUNCTION noop()"
    )
    move.setup()
    reason = "source table public.tb_post was changed during the run"
    with pytest.raises(Refused, match=reason) as blocked:
        migrate(move.where, RunOptions(), Between(lambda: move.source.sql(statement)))
    line = f"confiture migrate schema-to-schema migrate --target {move.target.name} --restart-table public.post"
    assert what in blocked.value.why
    assert blocked.value.fix.endswith(line)
    assert str(move.journal("blocked_reason")).startswith(reason)
    assert move.journal("blocked_command") == "migrate --restart-table public.post"
    assert [status for status, _ in move.chunks("post")].count("done") == 1
    # The same command is refused for the same reason.
    assert in_plain_words(reason) in move.run("migrate", code=4).err


def test_ddl_between_the_plan_and_the_first_chunk_is_detected(move: SmallMove, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan describes the table as it was before. A later column would be left behind silently."""
    create_views = plan_store.create_views

    def too_late(context: Context, plan: Plan) -> None:
        move.source.sql("ALTER TABLE tb_post ADD COLUMN extra int")
        create_views(context, plan)

    monkeypatch.setattr(plan_store, "create_views", too_late)
    with pytest.raises(Refused, match=r"tb_post was changed while it was planned"):
        migrate(move.where, RunOptions(chunk_rows=50), Silent())


def test_a_table_that_was_truncated_and_refilled_is_copied_again(move: SmallMove, databases: Databases) -> None:
    refill = (
        "CREATE TABLE kept AS TABLE tb_post; TRUNCATE tb_post CASCADE; INSERT INTO tb_post TABLE kept; DROP TABLE kept"
    )
    with pytest.raises(Refused):
        migrate(move.where, RunOptions(), Between(lambda: move.source.sql(refill)))
    move.run("migrate", "--restart-table", "post")
    assert move.journal("blocked_reason") is None
    move.finish()
    move.assert_every_row_arrived_once()
    move.assert_as_designed(databases)


def test_a_new_column_is_accepted_with_a_mapping_that_covers_it(move: SmallMove) -> None:
    add = "ALTER TABLE tb_post ADD COLUMN extra int"
    with pytest.raises(Refused):
        migrate(move.where, RunOptions(), Between(lambda: move.source.sql(add)))
    assert "tb_post.extra has no counterpart" in move.run("migrate", "--restart-table", "post", code=2).err
    move.mapping.write_text(MAPPING.replace("$from: tb_post", "$from: tb_post\n  $omit: [extra]"))
    move.run("migrate", "--mapping", str(move.mapping), "--restart-table", "post")
    move.finish()
    move.assert_every_row_arrived_once()


def test_a_table_dropped_during_the_copy_blocks_the_run_and_is_named(move: SmallMove) -> None:
    gone = "source table public.tb_post was changed during the run"
    with pytest.raises(Refused, match=gone):
        migrate(move.where, RunOptions(), Between(lambda: move.source.sql("DROP TABLE tb_post CASCADE")))
    assert gone in str(move.journal("blocked_reason"))
    assert "was table public.tb_post; it was dropped" in str(move.journal("blocked_reason"))
    assert in_plain_words(gone) in move.run("migrate", code=4).err


def test_a_table_dropped_during_the_copy_can_be_removed_from_the_run(move: SmallMove) -> None:
    drop = "DROP TABLE tb_tag CASCADE; DROP TABLE tb_post CASCADE"
    with pytest.raises(Refused):
        migrate(move.where, RunOptions(), Between(lambda: move.source.sql(drop)))
    move.mapping.write_text("app_user:" + MAPPING.partition("app_user:")[2].partition("post:")[0])
    move.run("migrate", "--mapping", str(move.mapping), code=4)
    move.run("migrate", "--mapping", str(move.mapping), "--restart-table", "post")
    assert move.target.rows("SELECT count(*) FROM post") == [(0,)]
    move.finish()


# Lost connections ----------------------------------------------------------------------------------


def terminate_all(move: SmallMove) -> None:
    """End every session of the tool on both databases, and wait until they are gone."""
    for database in (move.source, move.target):
        ours = "application_name LIKE 'confiture%' AND datname = current_database()"
        database.sql(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {ours}")


@pytest.mark.parametrize("strategy", ["fdw", "copy"])
def test_sessions_ended_between_chunks_are_reopened(move: SmallMove, databases: Databases, strategy: str) -> None:
    migrate(move.where, RunOptions(strategy=strategy), Between(lambda: terminate_all(move), times=3))
    assert_finishes(move, databases)


@pytest.mark.parametrize("strategy", ["fdw", "copy"])
@pytest.mark.parametrize("point", ["plan.before_commit", "claim.before_commit", "copy.before_commit"])
def test_ending_all_sessions_loses_only_the_transaction_in_progress(
    move: SmallMove, databases: Databases, monkeypatch: pytest.MonkeyPatch, strategy: str, point: str
) -> None:
    acted = acting_once(monkeypatch, point, lambda: terminate_all(move))
    migrate(move.where, RunOptions(strategy=strategy), Silent())
    assert acted
    assert_finishes(move, databases)


def acting_once(monkeypatch: pytest.MonkeyPatch, point: str, act: Callable[[], object]) -> list[str]:
    """Act the second time a fenced transaction passes ``point``; the point, in a list, once that has happened."""
    passed: list[str] = []
    acted: list[str] = []

    def failpoint(name: str) -> None:
        passed.append(name)
        if name == point and passed.count(name) == 2:
            acted.append(name)
            act()

    monkeypatch.setattr(runner_context, "failpoint", failpoint)
    return acted


def lose_the_reply() -> None:
    """The COMMIT succeeds, and its reply is lost."""
    raise psycopg.OperationalError("server closed the connection unexpectedly")


@pytest.mark.parametrize("point", ["plan.after_commit", "claim.after_commit", "copy.after_commit"])
def test_a_commit_whose_reply_was_lost_is_resolved_by_reading_again(
    move: SmallMove, databases: Databases, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    acted = acting_once(monkeypatch, point, lose_the_reply)
    migrate(move.where, RunOptions(), Silent())
    assert acted
    move.assert_rows_and_checkpoints_agree()
    assert_finishes(move, databases)


@pytest.mark.parametrize("point", ["rebuild.before_commit", "rebuild.after_commit"])
def test_a_step_interrupted_by_a_lost_connection_is_performed_once(
    move: SmallMove, databases: Databases, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    act = lose_the_reply if point.endswith("after_commit") else lambda: terminate_all(move)
    acted = acting_once(monkeypatch, point, act)
    migrate(move.where, RunOptions(), Silent())
    assert acted
    assert_finishes(move, databases)


def test_migrate_waits_for_a_server_that_crashes_and_restarts(tmp_path: Path) -> None:
    with Server(embedded.scratch()) as server:
        databases = Databases(server)
        move = small_move.make(databases, tmp_path)
        move.setup()

        def crash() -> None:
            server.stop("immediate")
            server.start()

        migrate(move.where, RunOptions(), Between(crash, times=2))
        assert_finishes(move, databases)
