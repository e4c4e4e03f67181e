"""The sessions of a run: durable commits in order, no prepared statements, chunks that no two of them copy."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from confiture import config
from confiture.compare import checksum
from confiture.errors import Refused
from confiture.journal import chunks
from confiture.postgres import core
from confiture.postgres.session import Session
from forked import Forks
from live import LiveRun
from servers import Databases

OLD = """
CREATE TABLE item (id int PRIMARY KEY, v text);
INSERT INTO item SELECT n, 'v' || n FROM generate_series(1, 60) n;
"""
NEW = "CREATE TABLE item (id bigint PRIMARY KEY, v text)"
SAME = {"item": "SELECT id, v FROM item"}


@pytest.fixture
def live(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(databases, tmp_path, OLD, NEW, chunk_rows=10)


@pytest.mark.parametrize("side", ["source", "target"])
def test_commits_are_durable_whatever_the_database_has_set(live: LiveRun, databases: Databases, side: str) -> None:
    database = live.source if side == "source" else databases.make()
    database.sql(f"ALTER DATABASE {database.name} SET synchronous_commit = off")
    with Session(config.resolve(database.conninfo, live.project), "test") as session:
        for _ in range(2):
            with session.transaction() as tx:
                assert tx.pg.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_session_prepares_no_statement(live: LiveRun) -> None:
    with Session(config.resolve(live.source.conninfo, live.project), "test") as session:
        for number in range(20):
            with session.transaction() as tx:
                tx.pg.execute("SELECT v FROM public.item WHERE id = %s", (number,))
        with session.transaction() as tx:
            assert tx.pg.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


ADD = sa.text("INSERT INTO public.item VALUES (1000, 'added')")


@pytest.fixture
def session(live: LiveRun) -> Iterator[Session]:
    core._engine.cache_clear()  # so that it meets its first connection in the test
    with Session(config.resolve(live.source.conninfo, live.project), "test") as opened:
        yield opened


def test_a_statement_of_sqlalchemy_is_part_of_the_transaction(live: LiveRun, session: Session) -> None:
    with session.rehearsal() as tx:
        tx.pg.execute("INSERT INTO public.item VALUES (999, 'before')")
        tx.sa.execute(ADD)
    assert live.source.value("SELECT count(*) FROM item") == 60
    with session.transaction() as tx:
        tx.sa.execute(ADD)
        assert live.source.value("SELECT count(*) FROM item") == 60
    assert live.source.value("SELECT count(*) FROM item") == 61


def test_a_transaction_whose_connection_is_lost_writes_nothing(live: LiveRun, session: Session) -> None:
    def lose_and_write() -> None:
        with session.transaction() as tx:
            session.close()
            assert session.pg.closed is False  # another connection, outside of the transaction
            tx.sa.execute(ADD)

    with pytest.raises(psycopg.Error):
        lose_and_write()
    with session.transaction() as tx:
        assert tx.sa.execute(sa.text("SELECT count(*) FROM public.item")).scalar_one() == 60


@pytest.mark.parametrize("statement", ["SELECT 1/0", "SELECT pg_terminate_backend(pg_backend_pid())"])
def test_the_error_of_the_driver_leaves_a_transaction(session: Session, statement: str) -> None:
    for _ in range(2):  # the second time over another connection, when the first was ended
        with pytest.raises(psycopg.Error), session.transaction() as tx:
            tx.sa.execute(sa.text(statement))
    with session.transaction() as tx:
        assert tx.sa.execute(sa.text("SELECT 1")).scalar_one() == 1


def test_two_sessions_claim_different_chunks(live: LiveRun, forks: Forks) -> None:
    live.setup()
    killed = forks.run(live.arguments("migrate"), live.project, CONFITURE_FAILPOINT="copy.before_commit:1")
    assert killed.code == -signal.SIGKILL, killed.err
    run_id = uuid.UUID(str(live.target.value("SELECT id FROM confiture.run")))
    number = int(live.target.value("SELECT number FROM confiture.table_plan"))
    target = config.resolve(live.target.conninfo, live.project)
    with Session(target, "one") as one, Session(target, "other") as other:
        with one.transaction() as first, other.transaction() as second:
            planned = chunks.not_done(first, run_id, number)
            mine, theirs = chunks.claim(first, run_id, planned[0]), chunks.claim(second, run_id, planned[1])
            assert mine == planned[0]
            assert theirs == planned[1]
            assert chunks.claim(second, run_id, mine) is None
        with other.transaction() as second:
            assert chunks.claim(second, run_id, mine) == mine


def test_servers_with_different_hashes_are_compared_by_text(
    apart: tuple[Databases, Databases], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    differs = checksum._literal("inet_server_port()", "integer", "as_is")
    monkeypatch.setattr(checksum, "PROBE", (differs,))
    live = LiveRun(apart[0], tmp_path, OLD, NEW, apart=apart[1], strategy="copy")
    live.setup()
    live.migrate()
    statements: list[str] = []
    template = checksum._template
    monkeypatch.setattr(checksum, "_template", lambda block: statements.append(block) or template(block))
    assert live.verify().equal
    assert "hash_by_md5" in statements
    assert "hash_of_text" not in statements
    live.tamper("UPDATE item SET v = 'wrong' WHERE id = 7")
    (found,) = live.verify().differences
    assert found.place == "public.item id = 7 column v: value differs"


def test_a_reverse_pass_logs_its_keys_on_the_source_again(live: LiveRun) -> None:
    live.through()
    live.target.sql(
        "UPDATE item SET v = 'new' WHERE id = 7; DELETE FROM item WHERE id = 8; INSERT INTO item VALUES (99)"
    )
    live.follow()
    logged = live.source.rows(f"SELECT k1 FROM {live.source.run_schema}.log0001 ORDER BY 1")
    assert logged == [(7,), (8,), (99,)]
    live.rollback()
    live.migrate()
    assert live.verify().equal
    live.cutover()
    live.assert_same(**SAME)


INHERITED = """
CREATE TABLE parent (id int PRIMARY KEY, v text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
INSERT INTO parent VALUES (1, 'parent'); INSERT INTO child VALUES (2, 'child');
"""
INHERITING = "CREATE TABLE parent (id bigint PRIMARY KEY, v text); CREATE TABLE child (id bigint PRIMARY KEY, v text)"


def test_legacy_inheritance_is_refused_while_the_application_writes(databases: Databases, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        LiveRun(databases, tmp_path, INHERITED, INHERITING).setup()
    text = "\n".join(refused.value.lines())
    assert "(public.child, public.parent) is part of an inheritance tree that is not partitioning" in text
    assert "--no-capture" in text


def test_tables_that_inherit_in_the_target_only_are_written_alone(databases: Databases, tmp_path: Path) -> None:
    apart = "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (id int PRIMARY KEY, v text);"
    rows = "INSERT INTO parent SELECT n, 'parent' FROM generate_series(1, 9) n; INSERT INTO child SELECT * FROM parent;"
    inherits = (
        "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);"
    )
    live = LiveRun(databases, tmp_path, apart + rows, inherits)
    live.up_to_cutover()
    live.source.sql(
        "DELETE FROM parent WHERE id < 3; UPDATE parent SET v = 'new' WHERE id = 4; DELETE FROM child WHERE id = 9"
    )
    assert live.verify().equal
    live.cutover()
    live.assert_same(**{"ONLY parent": "SELECT id, v FROM parent", "child": "SELECT id, v FROM child"})


def test_each_table_of_an_inheritance_tree_is_read_alone_without_capture(databases: Databases, tmp_path: Path) -> None:
    live = LiveRun(databases, tmp_path, INHERITED, INHERITING)
    live.setup(capture=False)
    live.migrate()
    assert live.verify().equal
    live.assert_same(parent="SELECT id, v FROM ONLY parent", child="SELECT id, v FROM child")
