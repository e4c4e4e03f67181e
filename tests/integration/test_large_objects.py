"""Large objects are copied with their contents, owners, comments and privileges, and followed until the cutover."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from confiture import commands
from confiture.commands.endpoints import Endpoints
from confiture.errors import CutoverAborted, DataFailure, MissingPrivileges, Refused
from confiture.schema_to_schema.outcomes import Limits
from forked import Forks, until
from live import LiveRun
from servers import Databases, TestDatabase

OLD = """
CREATE TABLE doc (id int PRIMARY KEY, content oid);
INSERT INTO doc SELECT n, lo_from_bytea(70000 + n, convert_to(repeat('text ', n), 'UTF8')) FROM generate_series(1, 5) n;
SELECT lo_create(80000);
SELECT lo_from_bytea(80001, decode(repeat('00ff10', 700000), 'hex'));
SELECT lo_put(80001, 4000000, 'behind a gap');
SELECT lo_create(4000000000);
COMMENT ON LARGE OBJECT 70001 IS 'it''s a comment';
"""
NEW = "CREATE TABLE doc (id bigint PRIMARY KEY, content oid);"
COPY = "$large_objects: copy\n"
#: Every large object with all that belongs to it, read as a whole.
ALL = """
SELECT m.oid::bigint, md5(lo_get(m.oid)), length(lo_get(m.oid)), pg_get_userbyid(m.lomowner),
       obj_description(m.oid, 'pg_largeobject'),
       ARRAY(SELECT a.grantee::regrole || ' ' || a.privilege_type || a.is_grantable
             FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) a ORDER BY 1)
FROM pg_largeobject_metadata m ORDER BY 1
"""
#: One change of each kind, none of which fires a trigger.
CHANGES = """
SELECT lo_put(70001, 2, 'X');
SELECT lo_unlink(70002);
SELECT lo_from_bytea(90001, 'new');
COMMENT ON LARGE OBJECT 70003 IS 'commented';
GRANT SELECT ON LARGE OBJECT 70004 TO PUBLIC;
DO $$ DECLARE f int = lo_open(80001, 131072); BEGIN PERFORM lo_truncate(f, 1500000); END $$;
"""


def objects(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.rows(ALL)


@pytest.fixture
def run(databases: Databases, tmp_path: Path) -> LiveRun:
    return LiveRun(databases, tmp_path, OLD, NEW, COPY)


@pytest.fixture
def roles(databases: Databases) -> Iterator[None]:
    """Roles of the server, which own nothing at the end."""
    admin = TestDatabase(databases.server, "postgres")
    admin.sql("CREATE ROLE lob_owner; CREATE ROLE lob_reader; CREATE ROLE lob_mover LOGIN PASSWORD 'x' CREATEDB")
    yield
    databases.drop_all()
    admin.sql("DROP ROLE IF EXISTS lob_owner, lob_reader, lob_mover")


def owned_by_others(run: LiveRun) -> None:
    run.source.sql(
        "ALTER LARGE OBJECT 70001 OWNER TO lob_owner; ALTER LARGE OBJECT 70002 OWNER TO lob_owner;"
        "GRANT SELECT ON LARGE OBJECT 70001 TO PUBLIC;"
        "GRANT UPDATE ON LARGE OBJECT 70003 TO lob_reader WITH GRANT OPTION;"
        "REVOKE UPDATE ON LARGE OBJECT 70002 FROM lob_owner; GRANT SELECT ON LARGE OBJECT 70004 TO lob_owner"
    )


# Copying -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", [True, False], ids=["captured", "not captured"])
def test_every_large_object_arrives_as_it_was(run: LiveRun, roles: None, capture: bool) -> None:
    owned_by_others(run)
    before = objects(run.source)
    assert len(before) == 8
    run.up_to_cutover(capture=capture)
    run.cutover()
    assert objects(run.target) == before
    assert objects(run.source) == before
    run.assert_same(doc="SELECT id, content FROM doc")
    run.cleanup()
    assert objects(run.target) == before


def test_objects_of_another_version_arrive(databases: Databases, old_databases: Databases, tmp_path: Path) -> None:
    for number, (here, there) in enumerate([(databases, old_databases), (old_databases, databases)]):
        run = LiveRun(here, tmp_path / str(number), OLD, NEW, COPY, apart=there)
        run.up_to_cutover()
        run.source.sql(CHANGES)
        run.cutover()
        assert objects(run.target) == objects(run.source)


def test_more_objects_than_one_transaction_copies_arrive(run: LiveRun) -> None:
    run.source.sql("SELECT lo_from_bytea(100000 + n, int4send(n)) FROM generate_series(1, 1200) n")
    run.through()
    assert objects(run.target) == objects(run.source)


@pytest.mark.parametrize("when", ["before migrate", "after migrate", "after verify"])
def test_changes_during_the_run_are_copied_by_the_cutover(run: LiveRun, when: str) -> None:
    run.setup()
    for step, name in ((run.migrate, "before migrate"), (run.verify, "after migrate"), (run.cutover, "after verify")):
        if when == name:
            run.source.sql(CHANGES)
        step()
    assert objects(run.target) == objects(run.source)
    assert len(objects(run.target)) == 8


def test_the_cutover_waits_for_a_transaction_that_only_changes_objects(run: LiveRun) -> None:
    run.up_to_cutover()
    for statement in (
        "SELECT lo_put(70001, 0, 'late')",
        "SELECT lo_from_bytea(90002, 'new')",
        "SELECT lo_unlink(70002)",
        "COMMENT ON LARGE OBJECT 70003 IS 'late'",
    ):
        with run.source.connect(autocommit=False) as writer:
            writer.execute(statement.encode())
            with pytest.raises(CutoverAborted, match="could not be locked") as aborted:
                run.cutover(Limits(give_up_after=0.5, lock_timeout=0.2))
            assert f"pid {writer.info.backend_pid}" in aborted.value.why
            writer.commit()
    run.cutover()
    assert objects(run.target) == objects(run.source)


def test_an_object_that_changes_while_the_lock_is_awaited_is_copied(run: LiveRun) -> None:
    run.up_to_cutover()
    with run.source.connect(autocommit=False) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("SELECT lo_put(70001, 0, 'late'), lo_unlink(70002), lo_from_bytea(90003, 'new')")
        cutover = pool.submit(run.cutover)
        until(lambda: any("waiting for locks" in line for line in run.progress.lines), "the cutover to wait")
        writer.commit()
        cutover.result()
    assert objects(run.target) == objects(run.source)


def test_a_rehearsal_measures_the_comparison(run: LiveRun) -> None:
    run.up_to_cutover()
    _, rehearsal = commands.cutover.rehearse(run.where, Limits(), run.project / "d", run.progress)
    assert rehearsal is not None
    assert "compare the large objects" in [part.name for part in rehearsal.parts]


# Verification --------------------------------------------------------------------------------------

DAMAGE = {
    "70001: content differs": "SELECT lo_put(70001, 0, 'Z')",
    "80001: content differs": "SELECT lo_put(80001, 3000000, 'Z')",
    "70002: missing in target": "SELECT lo_unlink(70002)",
    "70009: not in source": "SELECT lo_create(70009)",
    "70001: comment differs": "COMMENT ON LARGE OBJECT 70001 IS NULL",
    "70003: owner differs": "ALTER LARGE OBJECT 70003 OWNER TO lob_owner",
    "70004: privileges differs": "GRANT SELECT ON LARGE OBJECT 70004 TO lob_reader",
}


@pytest.mark.parametrize("capture", [True, False], ids=["captured", "not captured"])
def test_objects_that_differ_are_found_and_copied_again(run: LiveRun, roles: None, capture: bool) -> None:
    run.up_to_cutover(capture=capture)
    for damage in DAMAGE.values():
        run.target.sql(damage)
    found = run.verify()
    # The privileges of the object whose owner differs differ too.
    wanted = [*DAMAGE, "70003: privileges differs"]
    assert {d.place for d in found.differences} == {f"large object {name}" for name in wanted}
    assert not found.checks["large_objects"]
    error = commands.verify.differences_found(run_of(run), found, None, run.where)
    if capture:
        assert "--repair\nor copy the large objects again: confiture migrate" in error.fix
        assert run.verify(repair=True).equal
    else:
        assert "copy the large objects again: confiture migrate" in error.fix
        run.migrate()
        assert run.verify().equal
    assert objects(run.target) == objects(run.source)
    run.cutover()


def run_of(run: LiveRun):  # type: ignore[no-untyped-def]
    return commands.databases.find_run(commands.databases.both_databases(run.where)[1])


def test_objects_that_change_while_they_are_verified_are_no_difference(run: LiveRun) -> None:
    run.up_to_cutover()
    run.source.sql(CHANGES)
    assert run.verify().equal


def test_without_capture_an_object_that_changed_is_a_difference(run: LiveRun) -> None:
    run.up_to_cutover(capture=False)
    run.source.sql(CHANGES)
    with pytest.raises(CutoverAborted, match="differ"):
        run.cutover()
    assert not run.verify().equal
    run.migrate()
    assert run.verify().equal
    run.cutover()
    assert objects(run.target) == objects(run.source)


# Rollback and abort --------------------------------------------------------------------------------


def test_a_rollback_copies_the_objects_of_the_target(run: LiveRun) -> None:
    run.through()
    run.target.sql(CHANGES)
    expected = objects(run.target)
    assert expected != objects(run.source)
    run.rollback()
    assert objects(run.source) == expected
    run.source.sql("SELECT lo_put(70005, 0, 'again'); SELECT lo_unlink(90001)")
    assert run.verify().equal
    run.cutover()
    assert objects(run.target) == objects(run.source)


def test_the_source_is_compared_with_the_target_after_the_cutover(run: LiveRun) -> None:
    run.through()
    run.target.sql(CHANGES)
    assert run.verify().equal
    run.source.sql("SELECT lo_put(70005, 0, 'lost'); SELECT lo_create(70010)")
    places = [d.place for d in run.verify().differences]
    assert places == ["large object 70005: content differs", "large object 70010: missing in target"]
    assert run.verify(repair=True).equal
    assert objects(run.source) == objects(run.target)


def test_an_object_created_on_the_closed_source_is_not_overwritten(run: LiveRun) -> None:
    run.through()
    for database in (run.source, run.target):
        database.sql(f"SELECT lo_from_bytea(90005, '{database.name}')")
    for _ in range(2):
        with pytest.raises(DataFailure, match="the source has another large object with the OID"):
            run.rollback()
    assert run.source.value("SELECT convert_from(lo_get(90005), 'UTF8')") == run.source.name
    run.source.sql("SELECT lo_unlink(90005)")
    run.rollback()
    assert objects(run.source) == objects(run.target)


def test_an_abort_removes_the_copies_from_a_target_that_existed(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, COPY)
    databases.make(run.target.name)
    run.target.sql(NEW)
    run.setup()
    run.migrate()
    run.target.sql("SELECT lo_create(123456)")
    assert len(objects(run.target)) == 9
    run.abort()
    assert [row[0] for row in objects(run.target)] == [123456]


# Refusals ------------------------------------------------------------------------------------------


def test_objects_are_refused_until_the_mapping_names_them(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW)
    with pytest.raises(Refused, match="the plan is refused") as refused:
        run.setup()
    assert "`$large_objects: copy`" in refused.value.why
    (tmp_path / "mapping.yaml").write_text(COPY)
    run.setup()


def test_a_target_with_objects_is_refused(databases: Databases, tmp_path: Path) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, COPY)
    databases.make(run.target.name)
    run.target.sql("SELECT lo_create(70001)")
    with pytest.raises(Refused) as refused:
        run.setup()
    run.target.sql(refused.value.why.rpartition(": ")[2])
    run.through()


def test_an_oid_that_was_taken_during_the_run_is_reported(run: LiveRun) -> None:
    run.setup()
    run.target.sql("SELECT lo_create(70001)")
    with pytest.raises(DataFailure, match="the target has another large object with the OID") as failed:
        run.migrate()
    assert "70001" in failed.value.why
    run.target.sql("SELECT lo_unlink(70001)")
    run.migrate()
    assert run.verify().equal


@pytest.mark.parametrize("owner", ["lob_owner", "lob_mover"])
def test_ordinary_roles_copy_after_the_printed_grants(
    databases: Databases, tmp_path: Path, roles: None, owner: str
) -> None:
    run = LiveRun(databases, tmp_path, OLD, NEW, COPY)
    run.source.sql("ALTER TABLE doc OWNER TO lob_mover; GRANT CREATE ON SCHEMA public TO lob_mover")
    run.source.sql(f"GRANT CREATE ON DATABASE {run.source.name} TO lob_mover")
    run.source.sql(
        f"DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP"
        f" EXECUTE format('ALTER LARGE OBJECT %s OWNER TO {owner}', o); END LOOP; END $$;"
        " ALTER LARGE OBJECT 70001 OWNER TO lob_owner; GRANT UPDATE ON LARGE OBJECT 70001 TO lob_mover"
    )
    conninfo = [d.server.conninfo(d.name, user="lob_mover", password="x") for d in (run.target, run.source)]
    run.where = Endpoints(*conninfo, run.project)
    with pytest.raises(MissingPrivileges) as missing:
        run.setup()
    for line in missing.value.why.splitlines():
        run.source.sql(line.rpartition(": ")[2])
    run.setup()
    run.migrate()
    assert run.verify().equal
    run.source.sql(f"SET ROLE lob_mover; {CHANGES}")
    run.cutover()
    assert objects(run.target) == objects(run.source)
    run.target.sql("SELECT lo_put(70005, 0, 'after'); SELECT lo_unlink(70001)")
    run.rollback()
    assert objects(run.target) == objects(run.source)


# Crashes -------------------------------------------------------------------------------------------


def killed(forks: Forks, run: LiveRun, step: str, *points: str) -> None:
    """Kill a command at each point in turn, and complete it."""
    for point in points:
        ended = forks.run(run.arguments(step), run.project, CONFITURE_FAILPOINT=point)
        assert ended.code == -9, (point, ended.out, ended.err)


def test_a_copy_that_is_killed_continues_after_its_last_commit(forks: Forks, run: LiveRun) -> None:
    run.source.sql("SELECT lo_from_bytea(100000 + n, 'x') FROM generate_series(1, 600) n")
    run.setup()
    killed(forks, run, "migrate", "large_objects.copied.before_commit", "large_objects.copied.after_commit")
    assert 0 < len(objects(run.target)) < len(objects(run.source))
    assert run.target.value(f"SELECT count(*) FROM {run.target.run_schema}.large_object") == len(objects(run.target))
    run.migrate()
    assert objects(run.target) == objects(run.source)
    run.target.sql("SELECT lo_unlink(100001)")
    assert not run.verify().equal
    killed(forks, run, "verify", "large_objects.copied.before_commit")
    run.target.sql("SELECT lo_unlink(100002)")
    killed(forks, run, "verify", "large_objects.again.before_commit")
    assert run.verify(repair=True).equal


def test_a_rollback_that_is_killed_copies_every_object(forks: Forks, run: LiveRun) -> None:
    run.through()
    run.target.sql(CHANGES)
    expected = objects(run.target)
    killed(forks, run, "rollback", *(f"large_objects.{p}.before_commit" for p in ("claimed", "back", "back_recorded")))
    run.rollback()
    assert objects(run.source) == objects(run.target) == expected


def test_an_abort_that_is_killed_removes_every_object(forks: Forks, run: LiveRun) -> None:
    run.setup()
    run.migrate()
    killed(forks, run, "abort", "large_objects.removed.before_commit", "large_objects.removed.after_commit")
    run.abort()
    assert objects(run.target) == []
