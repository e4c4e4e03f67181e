"""Roles that watch or steer a run: they log in, and see no value of a row. And the approval of a cutover."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from confiture import commands
from confiture.capture.apply import Follower
from confiture.commands.endpoints import Endpoints
from confiture.copy.throttle import Throttle
from confiture.errors import Refused
from confiture.journal import viewed
from confiture.postgres.session import Transaction
from confiture.schema_to_schema import cutover
from confiture.status import details_reader, report
from confiture.status.facts import Severity
from live import LiveRun
from projects import call_confiture, error
from servers import Databases, TestDatabase

SECRET = "sEcReT"
TABLE = "CREATE TABLE item (id text PRIMARY KEY, v text)"
ROWS = f"; INSERT INTO item SELECT '{SECRET}' || n, '{SECRET} value ' || n FROM generate_series(1, 30) n"
RELATIONS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'confiture'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY c.relname
"""
APPROVAL = "run_id, plan_hash, verification, actor, role"
#: Texts with values, as the commands write them where a row does not fit.
TEXTS = f"""
UPDATE confiture.run SET blocked_reason = 'Key (id)=({SECRET}1) already exists', blocked_command = 'migrate';
UPDATE confiture.runner SET ended_why = 'DataFailure: Key (id)=({SECRET}1) already exists' WHERE ended_why IS NOT NULL;
INSERT INTO confiture.event (run_id, epoch, kind, actor, detail)
SELECT id, 1, kind, 'x', replace(detail, '@', '"{SECRET}"')::jsonb FROM confiture.run, (VALUES
    ('blocked', '{{"reason": @}}'), ('reopen', '{{"reason": @}}'),
    ('rehearsed', '{{"command": "cutover", "parts": [], "seconds": 1, "limit": 5, "complete": true, "problem": @}}'),
    ('bad row', '{{"table": "item", "message": @, "key": {{"id": @}}}}'),
    ('terminate_blocker', '{{"pid": 1, "query": @}}'), ('of a later version', '{{"text": @}}')) v(kind, detail);
INSERT INTO confiture.chunk (run_id, table_number, number, lower_key, status, error)
SELECT id, 1, 99, '["{SECRET}"]', 'failed', '{{"message": "{SECRET}", "sqlstate": "23505"}}' FROM confiture.run;
UPDATE confiture.table_plan SET cursor_key = '["{SECRET}"]';
INSERT INTO confiture.changed_key SELECT id, 1, '["{SECRET}"]' FROM confiture.run;
"""


class People:
    """A run, its roles, and what each of them reads and does as itself."""

    def __init__(self, live: LiveRun) -> None:
        self.live = live
        self.viewer, self.operator = f"{live.source.name} viewer", f"{live.source.name}_operator"
        for role in (self.viewer, self.operator):
            live.source.sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'canary'")

    def drop(self) -> None:
        for role in (self.viewer, self.operator):
            self.live.target.sql(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')

    def conninfo(self, role: str) -> str:
        return self.live.target.server.conninfo(self.live.target.name, user=role, password="canary")

    def where(self, role: str) -> Endpoints:
        return Endpoints(self.conninfo(role), None, self.live.project)

    def grant(self) -> str:
        return commands.grants.for_roles(self.live.where, [self.viewer], [self.operator], apply=True)

    def confiture(self, role: str, *arguments: str, check: int | None = None) -> str:
        target = ["--target", self.conninfo(role), "--project", str(self.live.project)]
        done = call_confiture(*arguments, *target, cwd=self.live.project, env={}, check=check)
        return done.stdout + done.stderr


@pytest.fixture
def people(databases: Databases, tmp_path: Path) -> Iterator[People]:
    found = People(LiveRun(databases, tmp_path, TABLE + ROWS, TABLE))
    yield found
    found.drop()


def seen_by(database: TestDatabase, conninfo: str) -> tuple[set[str], str]:
    """The relations of the journal that a role may read, and everything in them as text."""
    readable, texts = set(), []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for name, columns in database.rows(RELATIONS):
            for column in ["*", *columns]:
                what = f"{name}::text" if column == "*" else f'"{column}"::text'
                try:
                    texts += connection.execute(f"SELECT {what} FROM confiture.{name}".encode()).fetchall()
                except psycopg.errors.InsufficientPrivilege:
                    continue
                readable.add(name if column == "*" else f"{name}.{column}")
    return readable, str(texts)


def test_each_relation_and_event_of_the_journal_is_classified(people: People) -> None:
    live = people.live
    live.setup(require_approval=True)
    people.grant()
    live.migrate()
    live.verify()
    people.confiture(people.operator, "approve", "--note", "CHG-1", check=0)
    live.cutover()
    live.rollback()
    live.verify()
    views = {f"viewed_{name}" for name in viewed.VIEWED}
    columns = dict(live.target.rows(RELATIONS))
    assert set(columns) - views == {*viewed.OPEN, *viewed.VIEWED, *viewed.HIDDEN}, "classify it in journal/viewed.py"
    assert not set(viewed.OPEN) & (set(viewed.VIEWED) | set(viewed.HIDDEN))
    for name in viewed.VIEWED:
        # A new column of a table needs CREATE OR REPLACE VIEW in a migration.
        assert sorted(columns[f"viewed_{name}"]) == sorted(columns[name]), name
    kinds = {kind for (kind,) in live.target.rows("SELECT DISTINCT kind FROM confiture.event")}
    assert kinds <= set(viewed.EVENTS), "classify it in journal/viewed.py"


def test_a_viewer_sees_the_run_and_no_value_of_a_row(people: People) -> None:
    live = people.live
    live.setup()
    live.migrate()
    live.tamper(f"UPDATE item SET v = '{SECRET} other' WHERE id = '{SECRET}7'; DELETE FROM item WHERE id = '{SECRET}8'")
    assert not live.verify().equal
    live.target.sql(TEXTS)
    assert "GRANT SELECT" in people.grant()
    owner = str([live.target.rows(f"SELECT {t}::text FROM confiture.{t}") for t in (*viewed.VIEWED, *viewed.HIDDEN)])
    assert owner.count(SECRET) > 15
    for role in (people.viewer, people.operator):
        readable, texts = seen_by(live.target, people.conninfo(role))
        assert SECRET not in texts
        whole = {name for name in readable if "." not in name}
        assert whole == {*viewed.OPEN, *(f"viewed_{name}" for name in viewed.VIEWED)}
        assert {n for n in readable if n.split(".")[0] in (*viewed.VIEWED, *viewed.HIDDEN)} <= {"event.id"}
        for table in ("item", f"{live.target.run_schema}.log1"):
            with psycopg.connect(people.conninfo(role)) as connection, pytest.raises(psycopg.Error):
                connection.execute(f"SELECT * FROM {table}".encode())
    # The commands of a viewer print the same as for the owner, but for the values.
    targets = (people.conninfo(people.viewer), live.where.target)
    reports = [report.report(target, live.project) for target in targets]
    assert [found.unknown for found in reports] == [(), ()]
    mine, theirs = (found.runs[0] for found in reports)
    assert (mine.severity, mine.state) == (theirs.severity, theirs.state) == (Severity.CRITICAL, "migrating")
    assert mine.verification["differences"] == theirs.verification["differences"] == 2
    assert SECRET in str(theirs)
    assert SECRET not in str(mine)
    assert "hidden from this role" in str(mine.blocked_reason)
    page = details_reader.page_facts(people.conninfo(people.viewer), live.project, show_values=True)
    (details,) = page.details.values()
    assert details.problem is None
    assert SECRET not in str(page)
    assert [d.key for d in details.differences] == [(("id", None),)] * len(details.differences) != []
    printed = people.confiture(people.viewer, "status", check=2) + people.confiture(people.viewer, "history", check=0)
    assert "MIGRATING" in printed
    assert SECRET not in printed
    # The report names the command that grants what a role lacks.
    live.target.sql(f'REVOKE SELECT ON confiture.viewed_run FROM "{people.viewer}"')
    assert "grants --viewer" in " ".join(people.confiture(people.viewer, "status", check=3).split())


def test_an_operator_steers_the_run_and_does_nothing_else(people: People) -> None:
    live = people.live
    live.setup()
    people.grant()
    live.migrate()
    people.confiture(people.viewer, "approve", check=4)
    for step in (("pause",), ("resume",), ("throttle", "--max-rate", "5")):
        refused = people.confiture(people.viewer, "migrate", "schema-to-schema", *step, check=4)
        assert "confiture grants --target" in refused
        assert "--operator ROLE" in refused
    commands.requests.request(people.where(people.operator), "pause")
    commands.requests.request(people.where(people.operator), "resume")
    commands.requests.throttle(people.where(people.operator), Throttle(max_rate=5), off=False)
    commands.requests.throttle(people.where(people.operator), Throttle(), off=True)
    asked = live.target.rows("SELECT kind, role FROM confiture.event WHERE kind IN ('pause', 'resume', 'throttle')")
    assert asked == [(kind, people.operator) for kind in ("pause", "resume", "throttle", "throttle")]
    for command in ("abort", "migrate", "verify", "cutover"):
        more = ("--yes",) if command == "abort" else ()
        people.confiture(people.operator, "migrate", "schema-to-schema", command, *more)
        assert live.state == "migrating"
    run = "(SELECT id FROM confiture.viewed_run)"
    event = "INSERT INTO confiture.event (run_id, epoch, kind, actor, from_state, to_state)"
    for statement in (
        f"{event} VALUES ({run}, 1, 'verify', 'x', 'migrating', 'verified')",
        f"{event} VALUES ({run}, 1, 'approved', 'x', 'migrating', 'verified')",
        f"{event} VALUES ({run}, 1, 'takeover', 'x', NULL, NULL)",
        "UPDATE confiture.run SET state = 'aborted'",
        "UPDATE confiture.event SET kind = 'x'",
        "DELETE FROM confiture.request",
        "TRUNCATE confiture.approval",
        f"INSERT INTO confiture.approval ({APPROVAL}) VALUES ({run}, '', 1, 'x', 'boss')",
        f"INSERT INTO confiture.sample (run_id, epoch, state, rows_done) VALUES ({run}, 1, 'x', 1)",
        "CREATE TABLE confiture.mine (id int)",
    ):
        with psycopg.connect(people.conninfo(people.operator)) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    with pytest.raises(Refused, match="does not exist"):
        commands.grants.for_roles(live.where, ["no such role"], [])
    assert "it is a superuser" in commands.grants.for_roles(live.where, ["postgres"], [])


def test_an_operator_writes_nothing_that_breaks_a_command(people: People) -> None:
    live = people.live
    live.setup()
    people.grant()
    live.migrate()
    live.tamper("UPDATE item SET v = 'x'")
    assert not live.verify().equal
    run = "(SELECT id FROM confiture.viewed_run)"
    event = "INSERT INTO confiture.event (run_id, epoch, kind, actor, detail) VALUES"
    request = "INSERT INTO confiture.request (run_id, kind, actor, detail) VALUES"
    paused = f"{request} ({run}, 'pause', 'x', '{{}}'); "
    refused = [
        # An event without its request, or one that says something else.
        *(f"{event} ({run}, 1, 'pause', 'x', '{detail}')" for detail in ("{}", "[1]", "null", '"x"')),
        f"{paused}{event} ({run}, 1, 'pause', 'x', '[1]')",
        f"{paused}{event} ({run}, 1, 'pause', 'x', '{{\"reason\": \"gone\"}}')",
        f"{paused}{event} ({run}, 1, 'resume', 'x', '{{}}')",
        f"{paused}{event} ({run}, 1, 'pause', 'another', '{{}}')",
        f"{paused}{event} ({run}, 0, 'pause', 'x', '{{}}')",
        f"{paused}{event} ({run}, 99, 'pause', 'x', '{{}}')",
        f'{event} ({run}, 1, \'approved\', \'x\', \'{{"plan": "x", "verification": 1, "note": null}}\')',
        # Limits that a copy cannot use.
        *(f"{request} ({run}, 'throttle', 'x', '{detail}')" for detail in ("[1]", "null", '"x"', '{"max_rate": "5"}')),
        *(f"{request} ({run}, 'throttle', 'x', '{{\"max_rate\": {n}}}')" for n in ("0", "-1", "0.5", "1e300", "true")),
        *(f"{request} ({run}, 'throttle', 'x', '{{\"max_replica_lag\": {n}}}')" for n in ("0", "-1", "1e300", "[]")),
        *(f"{request} ({run}, 'throttle', 'x', '{{\"{name}\": {n}}}')" for name in ("", "rate") for n in ("1", "null")),
        f"{request} ({run}, 'resume', 'x', '{{\"max_rate\": 1}}')",
        f"{request} ({run}, 'pause', E'x as role boss\\n  2026-01-01 00:00:00Z  abort', '{{}}')",
        # A verification that found a difference.
        "INSERT INTO confiture.approval (run_id, plan_hash, verification, actor)"
        " SELECT id, plan_hash, 1, 'x' FROM confiture.viewed_run",
    ]
    for statement in refused:
        with psycopg.connect(people.conninfo(people.operator)) as connection:
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation)):
                connection.execute(statement.encode())
    assert live.target.value("SELECT count(*) FROM confiture.request") == 0
    for role in (people.viewer, people.operator):
        assert "MIGRATING" in people.confiture(role, "history", check=0)
    # The name of the user in the environment is no line of the history.
    where, step = ["--target", people.conninfo(people.operator)], ["migrate", "schema-to-schema", "pause"]
    call_confiture(*step, *where, cwd=live.project, env={"LOGNAME": "x\n2026\x1b[2J"}, check=0)
    assert live.target.value("SELECT actor FROM confiture.request").startswith("x 2026\\u001b[2J@")
    for value in ("inf", "1e300"):
        limit = ["migrate", "schema-to-schema", "throttle", *where, "--max-replica-lag", value]
        call_confiture(*limit, cwd=live.project, env={}, check=2)


def test_default_privileges_show_a_viewer_no_value(people: People) -> None:
    live = people.live
    group = f"{live.source.name}_group"
    # The database exists before setup, with default privileges.
    with psycopg.connect(live.source.conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {live.target.name} TEMPLATE template0".encode())
    roles = ", ".join(f'"{role}"' for role in (people.viewer, people.operator))
    live.target.sql(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {roles}; CREATE ROLE {group}")
    live.setup()
    assert "REVOKE SELECT ON confiture.changed_key" in people.grant()
    for role in (people.viewer, people.operator):
        readable, _ = seen_by(live.target, people.conninfo(role))
        whole = {name for name in readable if "." not in name}
        assert whole == {*viewed.OPEN, *(f"viewed_{name}" for name in viewed.VIEWED)}
    tables = "FROM pg_class c WHERE relnamespace = 'confiture'::regnamespace AND relkind = 'r'"
    for privilege in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"):
        for role in (people.viewer, people.operator):
            permitted = f"has_table_privilege('{role}', c.oid, '{privilege}')"
            assert live.target.value(f"SELECT count(*) {tables} AND {permitted}") == 0
    assert "REVOKE" not in people.grant()
    people.confiture(people.operator, "migrate", "schema-to-schema", "pause", check=0)
    # A privilege of another role is not revoked.
    live.target.sql(f'GRANT SELECT ON confiture.difference TO {group}; GRANT {group} TO "{people.viewer}"')
    assert f"it is a member of {group}, which may read confiture.difference" in people.grant()
    live.target.sql(f"REVOKE SELECT ON confiture.difference FROM {group}; DROP ROLE {group}")
    live.target.sql("GRANT SELECT ON confiture.chunk TO PUBLIC")
    assert people.grant().count("in any case: PUBLIC may read confiture.chunk") == 2


def test_an_operator_does_not_upgrade_the_journal(people: People) -> None:
    live = people.live
    live.setup()
    people.grant()
    live.target.sql("DELETE FROM confiture.migration WHERE version = (SELECT max(version) FROM confiture.migration)")
    for command in (["migrate", "schema-to-schema", "pause"], ["approve"]):
        assert "only the role that owns it may upgrade it" in people.confiture(people.operator, *command, check=4)


# Approval ------------------------------------------------------------------------------------------


def approved(people: People, *options: str, check: int = 0) -> str:
    return people.confiture(people.operator, "approve", *options, check=check)


def refusal(people: People) -> str:
    """The refusal of a cutover, after which the source is still serving."""
    with pytest.raises(Refused) as refused:
        people.live.cutover()
    assert refused.value.exit_code == 4
    assert "approve --target" in refused.value.fix
    assert people.live.open_sides("UPDATE item SET v = v") == {"source"}
    return f"{refused.value.what}: {refused.value.why}"


def test_a_cutover_waits_for_the_approval_of_another_role(people: People) -> None:
    live = people.live
    live.setup(require_approval=True)
    people.grant()
    assert "nothing to approve" in approved(people, check=4)
    live.migrate()
    verify = [*live.arguments("verify"), "--again"]
    assert "Next: confiture approve --target" in call_confiture(*verify, cwd=live.project, env={}, check=0).stdout
    assert "it has none" in refusal(people)
    printed = people.confiture(people.viewer, "status", check=0)
    assert "Approval required by another role; none so far" in printed
    assert "confiture approve --target" in printed.partition("Next")[2].splitlines()[1]
    # A rehearsal needs none. Each command names the approval as the next one until it is given.
    for words in (["cutover", "--dry-run"], ["migrate"], ["verify", "--again"], ["verify", "--format", "json"]):
        done = call_confiture(*live.arguments(words[0]), *words[1:], cwd=live.project, env={}, check=0)
        assert "confiture approve --target" in done.stdout.partition("ext")[2], words
    # The role that runs the migration may not approve it, nor claim to be another role.
    with pytest.raises(Refused, match="may not approve"):
        commands.approve.execute(live.where, None)
    forged = f"INSERT INTO confiture.approval ({APPROVAL}) SELECT id, plan_hash, 1, 'x', 'boss'"
    with live.target.connect() as connection, pytest.raises(psycopg.Error, match="runs the migration"):
        connection.execute(f"{forged} FROM confiture.run".encode())
    # Nor does it get rid of the requirement by another value of the run's row.
    live.target.sql("UPDATE confiture.run SET options = '{\"capture\": true}'")
    assert "it has none" in refusal(people)
    assert f"approved by role {people.operator}" in approved(people, "--note", "CHG-1234")
    after = json.loads(call_confiture(*verify, "--format", "json", cwd=live.project, env={}, check=0).stdout)
    assert " cutover --target" in after["next"]
    printed = people.confiture(people.viewer, "status", check=0)
    assert f"Approval role {people.operator} at " in printed
    assert " cutover --target" in printed.partition("Next")[2].splitlines()[1]
    # A difference that is found since makes it void, also one that is repaired.
    live.tamper(f"UPDATE item SET v = 'x' WHERE id = '{SECRET}7'")
    assert not live.verify().equal
    live.tamper(f"UPDATE item SET v = '{SECRET} value 7' WHERE id = '{SECRET}7'")
    assert live.verify().equal
    assert "a difference was found since" in refusal(people)
    assert "Approval void: a difference was found since (" in people.confiture(people.viewer, "status", check=0)
    approved(people)
    # So does another plan.
    live.target.sql("UPDATE confiture.run SET plan_hash = repeat('0', 64)")
    assert "another plan" in refusal(people)
    live.target.sql("UPDATE confiture.run SET plan_hash = (SELECT plan_hash FROM confiture.verification LIMIT 1)")
    live.cutover()
    assert live.state == "cutover"
    who = live.target.rows("SELECT role, detail ->> 'note' FROM confiture.event WHERE kind = 'approved' ORDER BY id")
    assert who == [(people.operator, "CHG-1234"), (people.operator, None)]
    live.rollback()
    live.verify()
    assert "cut over again since" in refusal(people)


def test_the_approval_is_checked_again_under_the_lock(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    live = people.live
    live.setup(require_approval=True)
    people.grant()
    live.migrate()
    live.verify()
    approved(people)
    synchronise = cutover.apply_last

    def with_a_difference(follower: Follower, locked: Transaction) -> None:
        synchronise(follower, locked)
        found = "INSERT INTO confiture.event (run_id, epoch, kind, actor) SELECT id, epoch, 'differences', 'x'"
        live.target.sql(f"{found} FROM confiture.run")

    with monkeypatch.context() as patch:
        patch.setattr(cutover, "apply_last", with_a_difference)
        assert "a difference was found since" in refusal(people)
    approved(people)
    live.cutover()
    assert live.open_sides("UPDATE item SET v = v") == {"target"}


def test_an_approver_that_runs_the_migration_then_has_not_approved(people: People) -> None:
    live = people.live
    live.up_to_cutover()
    people.grant()
    (live.project / "db/environments").mkdir(parents=True)
    text = f"database_url: {live.target.conninfo}\nrequire_approval: true\n"
    (live.project / "db/environments/new.yaml").write_text(text)
    live.where = Endpoints("new", live.source.conninfo, live.project)
    # The environment requires it of a run that began without the requirement.
    assert "it has none" in refusal(people)
    approved(people)
    live.target.sql(f"UPDATE confiture.runner SET role = '{people.operator}' WHERE epoch = 2")
    assert "has also run the migration" in refusal(people)
    live.target.sql("UPDATE confiture.runner SET role = 'postgres' WHERE epoch = 2")
    live.cutover()
    (live.project / "db/environments/new.yaml").write_text(text.replace("true", "perhaps"))
    done = call_confiture("history", "--target", "new", cwd=live.project, env={}, check=2)
    assert "require_approval must be true or false" in error(done)
