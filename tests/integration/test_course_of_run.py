"""The course of a run as its journal shows it: one run with a kill, a pause and a throttling, read once."""

from __future__ import annotations

import signal
from pathlib import Path

import small_move
from confiture.config import Database
from confiture.postgres.session import Session
from confiture.status.course import Course, Hindrance, Mark, Work
from confiture.status.course_reader import course
from forked import Forks, until
from servers import Databases, TestDatabase


def read(target: TestDatabase) -> Course:
    with Session(Database(target.name, target.conninfo), "status") as session:
        with session.transaction(read_only=True) as tx:
            (run,) = tx.pg.execute("SELECT id FROM confiture.run").fetchone() or ()
            return course(tx, run)


def test_course_of_a_run_shows_its_work_and_what_delayed_it(databases: Databases, tmp_path: Path, forks: Forks) -> None:
    move = small_move.make(databases, tmp_path)
    move.setup()
    began = read(move.target)
    assert [s.state for s in began.states] == ["setup"]
    assert all(not t.bars for t in began.tables)
    killed = forks.run(move.arguments("migrate"), move.project, CONFITURE_FAILPOINT="copy.before_commit:3")
    assert killed.code == -signal.SIGKILL
    lost = read(move.target)
    assert [s.kind for s in lost.stretches if s.end is None] == [Hindrance.KILLED]
    assert lost.ticks[-1].mark is Mark.KILLED
    move.run("migrate")
    move.run("pause")
    move.run("resume")
    # A runner takes no sample within a second of another one's.
    old = "SELECT max(at) < clock_timestamp() - interval '1 second' FROM confiture.sample"
    until(lambda: move.target.rows(old) == [(True,)], "the last sample to be a second old")
    move.run("verify")
    move.target.sql(
        "UPDATE confiture.sample SET throttled = 'replica lag' WHERE at = (SELECT max(at) FROM confiture.sample)"
    )
    check_work(read(move.target))
    check_hindrances(read(move.target))


def check_work(found: Course) -> None:
    for table in found.tables:
        kinds = [bar.work for bar in table.bars]
        assert kinds[0] is Work.COPY
        assert kinds[-1] is Work.VERIFICATION
        assert not table.active
        assert all(bar.begin <= bar.end for bar in table.bars if bar.end is not None)
        assert all(found.began <= bar.begin for bar in table.bars)
    names = {bar.name for table in found.tables for bar in table.bars if bar.work is Work.INDEX}
    assert "post_pkey" in names, names
    assert [s.state for s in found.states] == ["setup", "migrating", "verified"]
    assert found.states[-1].end is None
    assert found.samples[-1].rows_done == sum(t.rows_done for t in found.tables)
    assert found.eta is None


def check_hindrances(found: Course) -> None:
    assert {s.kind for s in found.stretches} == {Hindrance.KILLED, Hindrance.PAUSED, Hindrance.THROTTLED}
    assert len(found.stretches) == 3
    assert all(s.end is not None and s.begin <= s.end for s in found.stretches)
    assert [s.reason for s in found.stretches if s.kind is Hindrance.THROTTLED] == ["replica lag"]
    marks = [tick.mark for tick in found.ticks]
    assert marks[-6:] == [Mark.STARTED, Mark.KILLED, Mark.RESUMED, Mark.ENDED, Mark.STARTED, Mark.ENDED]
    assert found.ticks[-1].text == "verify: finished"
