"""The data sync reads a standby with a role that has SELECT alone, and gives way to the replay of the standby."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import synced
from confiture.postgres.embedded import Server
from forked import Forks, until
from servers import Databases, TestDatabase, caught_up, standby_of
from synced import Synced

pytestmark = pytest.mark.xdist_group("sync_standby")  # one worker creates the standby, once

READER = """
DO $$ BEGIN CREATE ROLE sync_reader LOGIN PASSWORD 'reader'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT USAGE ON SCHEMA public TO sync_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO sync_reader;
"""
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def standby(server: Server) -> Iterator[Server]:
    """A standby that lets no query delay its replay."""
    with standby_of(server, {"max_standby_streaming_delay": "0", "hot_standby_feedback": "off"}) as made:
        yield made


@pytest.fixture
def sync(databases: Databases, tmp_path: Path, server: Server, standby: Server) -> Synced:
    """A project whose source is the standby, with a role that may only read."""
    made = synced.make(databases, tmp_path)
    made.source.sql(READER)
    place = standby.conninfo(made.source.name, user="sync_reader", password="reader")
    made.write("db/environments/production.yaml", f"database_url: {place}\nprotected: true\n")
    caught_up(standby, server)
    return made


@pytest.mark.parametrize("options", [(), ("--consistent",), ("--sample", "30")])
def test_a_role_with_select_alone_syncs_from_a_standby(sync: Synced, options: tuple[str, ...]) -> None:
    done = sync.run(*options)
    assert sync.state == "cleaned"
    assert "sequences of the source that its role may not read" in done.stdout
    if "--sample" not in options:
        sync.assert_complete()
    sync.target.sql("ALTER TABLE customer DISABLE TRIGGER refuse")
    sync.target.sql("INSERT INTO customer (email) VALUES ('new@example.com')")


def test_a_standby_of_the_target_is_refused_as_its_source(sync: Synced) -> None:
    sync.write("db/environments/local.yaml", f"database_url: {sync.source.conninfo}\n")
    assert "source and target are one database" in sync.run(check=4).stderr


def test_a_standby_is_refused_as_the_target(
    sync: Synced, databases: Databases, server: Server, standby: Server
) -> None:
    other = databases.make()
    caught_up(standby, server)
    sync.write("db/environments/local.yaml", f"database_url: {standby.conninfo(other.name)}\n")
    assert "the target is a standby" in sync.run(check=4).stderr


def test_a_read_that_the_replay_cancels_is_repeated(sync: Synced, forks: Forks, standby: Server) -> None:
    conflicts = f"SELECT sum(confl_snapshot) FROM pg_stat_database_conflicts WHERE datname = '{sync.source.name}'"
    at_standby = TestDatabase(standby, sync.source.name)
    sync.target.sql(synced.SCHEMA + synced.TRIGGERS)
    sync.target.sql("CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    assert sync.killed(forks, "copy.after_commit:2").code < 0
    with sync.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE log IN SHARE MODE")
        running = forks.start(sync.arguments, sync.folder, **sync.env)
        until(lambda: sync.target.rows(WAITING), "the copy to wait in the middle of a chunk")
        sync.source.sql("UPDATE country SET title = title")
        sync.source.sql("VACUUM country")
        until(lambda: at_standby.value(conflicts), "the replay to cancel the read")
        blocker.rollback()
    ended = running.wait()
    assert ended.code == 0, ended.err
    sync.assert_complete()


def test_workers_of_their_own_process_mask_too(databases: Databases, forks: Forks, tmp_path: Path) -> None:
    made = synced.make(databases, tmp_path)
    ended = forks.run([*made.arguments, "--jobs", "2"], made.folder, **made.env)
    assert ended.code == 0, ended.err
    assert "2 worker processes" in ended.err
    made.assert_complete()


def test_an_error_of_the_source_shows_no_clear_value(databases: Databases, tmp_path: Path) -> None:
    made = synced.make(databases, tmp_path)
    made.source.sql("UPDATE customer SET full_name = n::text FROM generate_series(1, 300) n WHERE id = n")
    made.source.sql("UPDATE customer SET full_name = 'Secret Person' WHERE id = 270")
    made.write("db/sync/mask.yaml", 'customer:\n  email: email\n  full_name: {sql: "(full_name::int + 1)::text"}\n')
    done = made.run(check=5)
    assert "id = 270" in done.stderr
    stored = made.target.rows("SELECT r::text FROM confiture.run r UNION ALL SELECT e::text FROM confiture.event e")
    stored += made.target.rows("SELECT c::text FROM confiture.chunk c")
    assert "Secret Person" not in done.stdout + done.stderr + str(stored)


def test_columns_of_user_types_and_names_that_need_quotes_arrive(databases: Databases, tmp_path: Path) -> None:
    schema = (
        'CREATE SCHEMA "Odd"; CREATE TYPE "Odd"."Kind" AS ENUM (\'a b\', \'c\');'
        'CREATE TABLE "Odd"."My Table" ("Key %" int PRIMARY KEY, "Kind" "Odd"."Kind", "e Mail" text, tags text[])'
    )
    made = replace(synced.make(databases, tmp_path), source=databases.make(), target=databases.make())
    made.write("db/environments/production.yaml", f"database_url: {made.source.conninfo}\n")
    made.write("db/environments/local.yaml", f"database_url: {made.target.conninfo}\n")
    made.write("db/schema/10_tables.sql", f"{schema};")
    made.write("db/schema/20_triggers.sql", "SELECT 1;")
    made.write("db/sync/mask.yaml", '\'"Odd"."My Table"\':\n  \'"e Mail"\': email\n')
    made.source.sql(schema)
    made.source.sql(
        "INSERT INTO \"Odd\".\"My Table\" SELECT n, 'a b', 'x' || n || '@firm.ch', '{a,b}'"
        " FROM generate_series(1, 30) n"
    )
    made.run("--where", '"Odd"."My Table"="Key %" % 2 = 0')
    assert made.target.rows('SELECT count(*), min("Kind"::text), max(tags::text) FROM "Odd"."My Table"') == [
        (15, "a b", "{a,b}")
    ]
    assert made.target.value('SELECT count(*) FROM "Odd"."My Table" WHERE "e Mail" LIKE \'%@example.com\'') == 15
