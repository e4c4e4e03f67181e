"""Samples of a run over time: the runner takes them, few are kept, and they never stop the run."""

from __future__ import annotations

from pathlib import Path

import pytest

import small_move
from confiture.journal import samples
from confiture.runner.sampling import Sampler
from servers import Databases
from small_move import SmallMove

SAMPLES = "SELECT state, rows_done, throttled FROM confiture.sample ORDER BY at"


@pytest.fixture
def move(databases: Databases, tmp_path: Path) -> SmallMove:
    made = small_move.make(databases, tmp_path)
    made.setup()
    return made


def test_a_command_takes_a_sample_at_its_beginning_and_end(move: SmallMove) -> None:
    move.target.sql("DELETE FROM confiture.sample")
    move.run("migrate")
    move.target.sql("UPDATE confiture.sample SET at = at - interval '2 s'")
    move.run("migrate")
    copied = move.target.value("SELECT sum(rows_done) FROM confiture.table_plan")
    found = move.target.rows(SAMPLES)
    assert found[0] == ("setup", 0, None)
    assert found[1:] == [("migrating", copied, None)] * 3
    assert copied > 0


def test_a_locked_table_of_samples_does_not_stop_a_command(move: SmallMove) -> None:
    with move.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE confiture.sample IN ACCESS EXCLUSIVE MODE")
        ended = move.run("migrate", "--verbose")
    assert ended.err.count("no sample for the page") == 1
    assert move.target.value("SELECT bool_and(phase = 'finished') FROM confiture.table_plan")


def test_only_the_holder_of_the_run_takes_samples(move: SmallMove) -> None:
    count = "SELECT count(*) FROM confiture.sample"
    with move.holding() as context:
        move.target.sql("DELETE FROM confiture.sample")
        Sampler(context.target, context.run_id, context.epoch - 1).take()
        assert move.target.value(count) == 0
        sampler = Sampler(context.target, context.run_id, context.epoch)
        sampler.take()
        assert move.target.value(count) == 1
        move.target.sql("UPDATE confiture.sample SET epoch = epoch - 1")
        sampler.take()
        assert move.target.value(count) == 1
        move.target.sql("DELETE FROM confiture.sample; UPDATE confiture.runner SET ended_at = now(), ended_why = 'x'")
        sampler.take()
        assert move.target.value(count) == 0


def test_old_samples_are_thinned_and_a_short_throttling_is_kept(move: SmallMove) -> None:
    move.target.sql(
        "DELETE FROM confiture.sample; INSERT INTO confiture.sample (run_id, at, epoch, state, rows_done)"
        " SELECT id, clock_timestamp() - n * interval '10 s', epoch, state, 30000 - n"
        " FROM confiture.run, generate_series(0, 26000) n;"
        # Two samples in the middle of one of the ten minutes of which one sample is kept.
        " UPDATE confiture.sample SET throttled = 'replica lag' FROM"
        " (SELECT date_bin('10 minutes', clock_timestamp() - interval '50 hours', '2000-01-01 00:05Z')) b(mid)"
        " WHERE at >= mid AND at < mid + interval '20 s'"
    )
    with move.holding() as context:
        for _ in range(2):
            with context.target.transaction() as tx:
                samples.thin(tx, context.run_id)
            counts = move.target.rows(
                "SELECT count(*) FILTER (WHERE age < interval '1 hour'),"
                " count(*) FILTER (WHERE age BETWEEN interval '1 hour' AND interval '1 day'),"
                " count(*) FILTER (WHERE age > interval '1 day'), count(throttled)"
                " FROM confiture.sample, LATERAL (SELECT clock_timestamp() - at) w(age)"
            )
            ((hour, day, older, throttled),) = counts
            assert 350 < hour < 370
            assert 23 * 60 - 3 < day < 23 * 60 + 5
            assert 288 - 3 < older < 288 + 5
            assert throttled == 1
