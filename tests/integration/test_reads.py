"""``cutover --reads-first``: reads of the target before the cutover, which is kept up to date and takes no writes."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from confiture import commands
from confiture.cli import reads as options
from confiture.errors import Blocked, CutoverAborted, CutoverUnfinished, Refused, UsageError
from confiture.render import status as render
from confiture.schema_to_schema import follow, migrate
from confiture.schema_to_schema.outcomes import ReadLimits
from confiture.states import MIGRATING
from confiture.status import report
from confiture.status.facts import RunReport, Severity
from forked import Forks
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE a (id int PRIMARY KEY, n int);
CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
INSERT INTO a SELECT n, n FROM generate_series(1, 40) n;
INSERT INTO parted SELECT n, n FROM generate_series(1, 40) n;
"""
NEW = """
CREATE TABLE a (id bigint PRIMARY KEY, n bigint);
CREATE TABLE parted (id bigint PRIMARY KEY, n bigint) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE MATERIALIZED VIEW total AS SELECT sum(n) AS n FROM a;
"""
#: Every kind of write, by a session of the application.
WRITES = (
    "INSERT INTO a VALUES (900, 1)",
    "UPDATE a SET n = 0",
    "DELETE FROM a WHERE id = 1",
    "TRUNCATE a",
    "INSERT INTO part VALUES (90, 1)",
    "TRUNCATE part",
    "SET session_replication_role = replica; UPDATE a SET n = 0",
    "COPY a FROM PROGRAM 'echo 901,1' WITH (FORMAT csv)",
)


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=20).up_to_cutover()


class Readers:
    """The hook of a test: it counts how often it has redirected the readers, and to which database."""

    def __init__(self, live: LiveRun) -> None:
        self.live = live
        self.redirected: list[str] = []

    def redirect(self, run: object, old: object, new: object) -> None:
        self.redirected.append("target" if new.dbname == self.live.target.name else "source")  # type: ignore[attr-defined]

    def first(self, limits: ReadLimits | None = None, *, keep: bool = False) -> None:
        commands.reads.first(self.live.where, limits or ReadLimits(), self.redirect, self.live.progress, keep=keep)

    def back(self) -> None:
        commands.reads.back(self.live.where, self.redirect, self.live.progress)


def status(live: LiveRun) -> RunReport:
    return report.report(live.where.target, live.project).runs[0]


def phase(live: LiveRun) -> object:
    return live.target.value("SELECT reads_phase FROM confiture.run")


def events(live: LiveRun) -> list[str]:
    return [row[0] for row in live.target.rows("SELECT kind FROM confiture.event WHERE kind ~ '^reads' ORDER BY id")]


def test_reads_precede_the_writes_and_a_rollback_takes_both_back(live: LiveRun) -> None:
    readers = Readers(live)
    live.source.sql("UPDATE a SET n = n + 1 WHERE id = 3")
    readers.first()
    assert readers.redirected == ["target"]
    live.assert_same(a="SELECT * FROM a")
    assert live.target.value("SELECT n FROM total") == live.source.value("SELECT sum(n) FROM a")
    found = status(live)
    assert (found.writes_served_by, found.reads["served_by"], found.state) == ("source", "target", "verified")
    assert 0 <= (found.reads["staleness_seconds"] or -1) < 30 == found.reads["max_staleness_seconds"]
    assert found.stale_views == ("public.total",)
    assert " follow " in (found.next["command"] or "")
    assert [
        s["command"].split("confiture migrate schema-to-schema ")[1].split()[0]
        for s in found.next["alternatives"]
        if s["command"]
    ] == ["cutover", "cutover"]
    assert "Reads go to   " in render.text(report.report(live.where.target, live.project))
    readers.first()
    assert readers.redirected == ["target"], "readers that were redirected are not redirected again"
    for write in WRITES:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            live.target.sql(write)
    for command in (live.migrate, live.abort, lambda: live.restart("a")):
        with pytest.raises(Refused, match="while reads go to the target") as refused:
            command()
        assert refused.value.fix.endswith("--reads-back")
    live.source.sql("UPDATE a SET n = 7 WHERE id = 7")
    live.follow()
    live.cutover()
    assert status(live).reads["served_by"] == "target"
    assert live.target.value("SELECT n FROM total") == live.source.value("SELECT sum(n) FROM a")
    live.target.sql("UPDATE a SET n = 8 WHERE id = 8")
    with pytest.raises(Refused, match="the target takes the writes"):
        readers.back()
    live.rollback()
    found = status(live)
    assert (found.reads["phase"], found.reads["served_by"], found.severity) == ("closing", "unknown", Severity.WARNING)
    assert (found.next["command"] or "").endswith("--reads-back")
    with pytest.raises(Refused, match="while reads go to the target"):
        live.abort()
    readers.back()
    readers.back()
    assert readers.redirected == ["target", "source"]
    assert events(live) == ["reads opening", "reads open", "reads closing", "reads closed"]
    live.assert_same(a="SELECT * FROM a")
    live.abort()


def arguments(live: LiveRun, *more: str) -> list[str]:
    return [*live.arguments("follow")[:2], "cutover", *live.arguments("follow")[3:], *more]


def test_killed_redirection_of_readers_is_continued_or_undone(live: LiveRun, forks: Forks) -> None:
    for option, points in (
        ("--reads-first", ("reads.opening.before_commit", "reads.redirecting", "reads.open.before_commit")),
        ("--reads-back", ("reads.closing.before_commit", "reads.redirecting_back", "reads.closed.before_commit")),
    ):
        address = live.project / f"address{option}"
        hook = f"reads=sh -c 'echo $CONFITURE_TARGET >> {address}'"
        more = [option, "--hook", hook, *(["--no-follow"] if option == "--reads-first" else [])]
        for point in points:
            killed = forks.run(arguments(live, *more), live.project, CONFITURE_FAILPOINT=point)
            assert killed.code == -signal.SIGKILL, f"{point}: {killed.code}\n{killed.err}"
            assert phase(live) == {
                "reads.opening.before_commit": None,
                "reads.redirecting": "opening",
                "reads.open.before_commit": "opening",
                "reads.closing.before_commit": "open",
            }.get(point, "closing")
            if phase(live) in ("opening", "closing"):
                found = status(live)
                assert found.severity is Severity.WARNING
                assert found.reads["served_by"] == "unknown"
                assert (found.next["command"] or "").endswith(option)
                with pytest.raises(Refused, match="the reads may go to either side"):
                    live.cutover()
                with pytest.raises(Refused, match="while reads go to the target"):
                    live.migrate()
        assert forks.run(arguments(live, *more), live.project).code == 0
        assert phase(live) == ("open" if option == "--reads-first" else None)
        serving = live.target if option == "--reads-first" else live.source
        assert address.read_text().count(f"dbname={serving.name} ") == 2, "the third point follows the hook"
    keeping = forks.start(arguments(live, "--reads-first"), live.project)
    keeping.until_said("applying changes until this command is stopped")
    keeping.signal(signal.SIGKILL)
    keeping.wait()
    live.source.sql("UPDATE a SET n = 99 WHERE id = 9")
    live.follow()
    assert (phase(live), live.target.value("SELECT n FROM a WHERE id = 9")) == ("open", 99), "follow takes over"
    Readers(live).back()
    failed = forks.run(arguments(live, "--reads-first", "--hook", "reads=false"), live.project)
    assert failed.code == 9
    assert "reads may go to either side, but the hook exited with code 1" in failed.err
    assert phase(live) == "opening"
    readers = Readers(live)
    readers.back()
    readers.first()
    point = "switch.after_point_of_no_return"
    assert forks.run(live.arguments("cutover"), live.project, CONFITURE_FAILPOINT=point).code == -signal.SIGKILL
    for act in (readers.first, readers.back):
        with pytest.raises(CutoverUnfinished):
            act()
    live.cutover()
    rolled = forks.run([*live.arguments("rollback"), "--hook", hook], live.project)
    assert (rolled.code, phase(live)) == (0, None), rolled.err
    assert live.verify().equal
    readers.first()
    aborted = forks.run([*live.arguments("abort"), "--hook", hook], live.project)
    assert (aborted.code, live.state, phase(live)) == (0, "aborted", None), aborted.err
    assert address.read_text().count(f"dbname={live.source.name} ") == 4, "after a rollback and before an abort too"


def test_a_difference_while_reads_go_to_the_target_is_critical(live: LiveRun) -> None:
    readers = Readers(live)
    readers.first()
    # A role that sets Confiture's own mark passes the write block; no role of an application does by accident.
    live.tamper("UPDATE a SET n = -1 WHERE id = 33")
    live.source.sql("UPDATE a SET n = n WHERE id < 10")
    live.target.sql("UPDATE confiture.verification SET started_at = started_at - interval '100 s'")
    commands.follow.execute(live.where, True, live.progress, 60)
    assert live.state == MIGRATING
    found = status(live)
    assert found.severity is Severity.CRITICAL
    assert "reads go to the target, which is no longer verified" in found.reasons[0]
    assert (found.next["command"] or "").endswith("--reads-back")
    with pytest.raises(Refused, match="not verified"):
        readers.first()
    readers.back()
    assert readers.redirected == ["target", "source"]
    assert live.verify(repair=True).equal
    readers.first()
    assert status(live).severity is Severity.OK


def test_a_write_block_that_is_damaged_stops_the_reads(live: LiveRun, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = Readers(live)
    trigger = live.target.value("SELECT tgname FROM pg_trigger WHERE tgrelid = 'a'::regclass AND tgname ~ '_rows$'")
    live.target.sql(f"ALTER TABLE a DISABLE TRIGGER {trigger}")
    with pytest.raises(Blocked, match="the write block of the target was damaged"):
        readers.first()
    assert phase(live) is None
    assert readers.redirected == []
    assert live.verify().equal
    readers.first()
    live.target.sql(f"ALTER TABLE a DISABLE TRIGGER {trigger}")
    monkeypatch.setattr(follow, "CHECK_SECONDS", 0.0)
    with pytest.raises(Blocked, match="the write block of the target was damaged"):
        commands.follow.execute(live.where, False, live.progress)
    found = status(live)
    assert found.severity is Severity.CRITICAL
    assert (found.next["command"] or "").endswith("--reads-back")
    assert (found.next["alternatives"][0]["command"] or "").endswith("--again")


def test_the_target_is_never_fresher_than_the_changes_it_has(live: LiveRun) -> None:
    readers = Readers(live)
    with pytest.raises(CutoverAborted, match="too far behind"):
        readers.first(ReadLimits(max_staleness=0.0, give_up_after=0.0))
    assert (phase(live), readers.redirected) == (None, [])
    readers.first()
    age = "SELECT extract(epoch FROM clock_timestamp() - fresh_at)::float8 FROM confiture.catchup"
    live.target.sql("UPDATE confiture.catchup SET fresh_at = fresh_at - interval '1 hour'")
    found = status(live)
    assert (found.severity, found.reads["staleness_seconds"] or 0) > (Severity.OK, 3600)
    assert "behind for its readers, the limit is 30 seconds" in found.reasons[0]
    with commands.holding.hold_run(live.where, "follow", live.progress) as (context, _):
        plan = migrate.stored_plan(context)
        live.source.sql("UPDATE a SET n = 0 WHERE id = 1")
        live.source.sql("SELECT pg_sleep(1)")
        follow.measure(context, plan)
        assert live.target.value(age) >= 1.0
        follow.single(context, plan)
        before = live.target.value("SELECT fresh_at FROM confiture.catchup")
        follow.measure(context, plan)
        assert live.target.value("SELECT fresh_at FROM confiture.catchup") > before
        # A transaction that began before the measurement commits after it: the target keeps the changes that it has.
        with live.source.connect(autocommit=False) as writer:
            writer.execute("UPDATE a SET n = 1 WHERE id = 1")
            live.source.sql("SELECT pg_sleep(1)")
            follow.measure(context, plan)
            before = live.target.value("SELECT fresh_at FROM confiture.catchup")
            writer.commit()
        follow.measure(context, plan)
        assert live.target.value("SELECT fresh_at FROM confiture.catchup") >= before
    live.target.sql("UPDATE confiture.catchup SET fresh_at = NULL")
    assert "it is not known how far the target is behind" in status(live).reasons[0]
    live.follow()
    assert status(live).severity is Severity.OK


def test_reads_need_passes_that_keep_every_table_up_to_date(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, "CREATE TABLE k (n int); INSERT INTO k VALUES (1)", "CREATE TABLE k (n int);")
    live.setup()
    live.migrate()
    readers = Readers(live)
    with pytest.raises(Refused, match="not verified"):
        readers.first()
    assert live.verify().equal
    with pytest.raises(Refused, match="not kept up to date") as refused:
        readers.first()
    assert "public.k" in refused.value.why
    readers.first(ReadLimits(accept_stale=True))
    assert status(live).reads["not_kept"] == ["public.k"]
    live.source.sql("INSERT INTO k VALUES (2)")
    live.cutover()
    assert live.target.value("SELECT count(*) FROM k") == 2


def test_options_of_reads_that_do_not_fit_together_are_refused() -> None:
    for given in ((True, True, None, False, False, 30.0), (False, True, 5.0, False, False, 30.0)):
        with pytest.raises(UsageError):
            options.wanted(*given)
    with pytest.raises(UsageError):
        options.wanted(False, False, None, False, True, 30.0)
    assert options.wanted(False, False, None, False, False, 30.0) is None
    with pytest.raises(UsageError, match="--dry-run"):
        options.refuse_others({"--dry-run": True, "--pool": None})
