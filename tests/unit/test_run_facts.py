"""The facts of a run, which other processes of its runner need."""

from __future__ import annotations

import multiprocessing
import pickle
import uuid

from confiture.config import Database
from confiture.runner.run_facts import RunFacts

FACTS = RunFacts(
    uuid.UUID("0123456789abcdef0123456789abcdef"),
    7,
    "prod_new",
    Database("prod", "host=old dbname=app password=secret", ("app", "public"), "prod"),
    Database("prod_new", "host=new dbname=app"),
    "sync",
)


def test_the_facts_of_a_run_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(FACTS)) == FACTS
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_seen, [FACTS]) == [("01234567", "confiture_01234567", 7, FACTS.source.conninfo)]


def _seen(facts: RunFacts) -> tuple[str, str, int, str]:
    return facts.short, facts.schema, facts.epoch, facts.database("source").conninfo


def test_the_printed_facts_of_a_run_hold_no_secret() -> None:
    assert "secret" not in repr(FACTS)
