"""Each event of a run is announced at most once to each receiver, and no receiver can stop or delay the run."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import projects
from confiture.commands.endpoints import Endpoints
from confiture.commands.holding import hold_run
from confiture.config import Database
from confiture.errors import (
    Blocked,
    CannotConnect,
    CutoverAborted,
    CutoverUnfinished,
    Drained,
    Held,
    Refused,
    UsageError,
)
from confiture.journal import notifications
from confiture.postgres.session import Session
from confiture.runner import delivery, notifier
from confiture.runner.progress import Silent
from projects import OLD, Project
from servers import Databases
from webhooks import Webhooks, webhooks

SENT = "SELECT receiver, kind, status, attempts FROM confiture.notification JOIN confiture.event e ON e.id = event_id"


@pytest.fixture
def hooks() -> Iterator[Webhooks]:
    with webhooks() as found:
        yield found


@pytest.fixture
def project(tmp_path: Path, databases: Databases) -> Project:
    source = databases.cloned(OLD)
    target = f"{source.name}_new"
    databases.adopt(target)
    return Project(tmp_path, source, target)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for what is not sent after each command, as the process of a command does at its end."""
    command = projects.main

    def main() -> None:
        try:
            command()
        finally:
            notifier.wait_for_ended()

    monkeypatch.setattr(projects, "main", main)


def notify(project: Project, *receivers: str) -> None:
    """Write the receivers into the environment, from which the target inherits them."""
    lines = "".join(f"  - {receiver}\n" for receiver in receivers)
    project.write("db/environments/prod.yaml", f"database_url: {project.source.conninfo}\nnotify:\n{lines}")


MORE = (("gone", "/gone"), ("busy", "/busy"), ("drips", "/drip"))


def test_a_run_announces_its_events_and_no_receiver_stops_it(
    project: Project, hooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 0.5)
    monkeypatch.setattr(delivery, "HOOK_SECONDS", 0.5)
    monkeypatch.setattr(notifier, "END_SECONDS", 60.0)
    monkeypatch.setenv("HOOK_TOKEN", "canary-token")
    address = hooks.url("").removesuffix("canary-token")
    of_port = address.partition("?")[0]
    notify(
        project,
        f"{{name: all, webhook: '{of_port}/accept?token=${{HOOK_TOKEN}}'}}",
        f"{{name: broken, webhook: '{hooks.url('/error')}', events: [verified]}}",
        f"{{name: moved, webhook: '{hooks.url('/elsewhere')}', events: [verified]}}",
        *(f"{{name: {name}, webhook: '{hooks.url(path)}', events: [verified]}}" for name, path in MORE),
        f"{{name: hangs, webhook: '{hooks.url('/hang')}', events: [verified]}}",
        "{name: absent, webhook: 'http://127.0.0.1:1/', events: [verified]}",
        "{name: unset, webhook: '${NOT_SET}', events: [verified]}",
        f"{{name: released, webhook: '{hooks.url('/until')}', events: [cutover]}}",
    )
    script = project.write("hook.sh", "#!/bin/sh\nenv > $CONFITURE_EVENT.txt\n")
    script.chmod(0o755)
    project.setup("--hook", "started=./hook.sh")
    project.step("migrate")
    verify = project.step("verify", "--hook", "verified=./hook.sh", "--hook", "verified=sleep 3600")
    monkeypatch.setattr(delivery, "ATTEMPT_SECONDS", 60)
    hooks.until = lambda: project.new.value("SELECT bool_and(ended_at IS NOT NULL) FROM confiture.runner") is True
    project.step("cutover", "--hook", "verified=false")

    assert [body["event"] for body in hooks.received("/accept")] == ["started", "ready", "verified", "cutover"]
    ready = hooks.received("/accept")[1]
    assert set(ready) == {"text", "event", "run", "source", "target", "at"}
    assert f"prod -> {project.target}" in ready["text"]
    assert len(hooks.received("/error")) == len(hooks.received("/busy")) == delivery.ATTEMPTS
    assert len(hooks.received("/elsewhere")) == len(hooks.received("/gone")) == 1
    assert len(set(hooks.keys["/error"])) == 1
    assert len(set(hooks.keys["/accept"])) == 4
    assert hooks.received("/stolen") == []
    assert ("released", "cutover", "sent", 1) in project.new.rows(SENT)

    status = {name: (kind, how, tries) for name, kind, how, tries in project.new.rows(SENT) if kind == "verify"}
    assert status == {
        "all": ("verify", "sent", 1),
        "broken": ("verify", "failed", delivery.ATTEMPTS),
        "moved": ("verify", "failed", 1),
        "gone": ("verify", "failed", 1),
        "busy": ("verify", "failed", delivery.ATTEMPTS),
        "drips": ("verify", "failed", delivery.ATTEMPTS),
        "hangs": ("verify", "failed", delivery.ATTEMPTS),
        "absent": ("verify", "failed", delivery.ATTEMPTS),
        "hook verified": ("verify", "sent", 1),
        "hook verified 2": ("verify", "failed", 1),
    }
    reasons = dict(project.new.rows("SELECT receiver, reason FROM confiture.notification WHERE reason IS NOT NULL"))
    assert reasons == {
        "broken": "HTTP 500",
        "moved": "HTTP 302: it redirects, which is not followed",
        "gone": "HTTP 410",
        "busy": "HTTP 429",
        "hangs": "no answer within 0 s",
        "drips": "no answer within 0 s",
        "absent": "Connection refused",
        "hook verified 2": "the hook was ended after 0 s",
    }
    for name, reason in reasons.items():
        assert verify.stderr.count(f"notification failed: {name}: {reason}; the run continues") == 1
    assert "unset: the environment variable NOT_SET is not set" in verify.stderr
    shown = json.loads(project.run("status", "--target", project.target, "--format", "json", check=None).stdout)
    assert "moved: HTTP 302: it redirects, which is not followed" in [e["text"] for e in shown["runs"][0]["errors"]]

    environment = (project.folder / "verified.txt").read_text()
    assert "CONFITURE_TEXT=confiture: prod -> " in environment
    assert "canary" not in environment + verify.stderr + str(hooks.requests) + dump(project)


def dump(project: Project) -> str:
    """All rows of the journal as text."""
    tables = project.new.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'confiture'")
    return "".join(str(project.new.rows(f"SELECT w::text FROM confiture.{name} w")) for (name,) in tables)


def test_a_killed_command_announces_no_event_twice(project: Project, hooks: Webhooks) -> None:
    notify(project, f"{{name: all, webhook: '{hooks.url('/accept')}', events: [started, verified, cutover, cleaned]}}")

    def killed_at(point: str, *words: str) -> None:
        project.step(*words, check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": point})

    project.reach("migrating")
    killed_at("state.verify.before_commit", "verify")
    killed_at("state.verify.after_commit", "verify")  # nothing is sent yet: the next command sends it
    killed_at("notification.sent", "cutover")
    project.step("cutover")
    killed_at("notification.claimed", "cleanup", "--yes")
    project.step("cleanup", "--yes")
    assert [body["event"] for body in hooks.received("/accept")] == ["started", "verified", "cutover"]
    assert {(kind, how) for _, kind, how, _ in project.new.rows(SENT)} == {
        ("created", "sent"),
        ("verify", "sending"),
        ("cutover", "sent"),
        ("clean", "sending"),
    }
    # Another process that looked before the claim: it may not send the event either.
    run, event = project.new.rows("SELECT run_id, event_id FROM confiture.notification ORDER BY event_id LIMIT 1")[0]
    with Session(Database("new", project.new.conninfo), "test") as session, session.transaction() as tx:
        assert not notifications.claim(tx, run, "all", event)


def test_a_command_killed_while_it_records_its_failure_can_be_repeated(project: Project) -> None:
    project.reach("verified")
    quick = ("--lock-timeout", "0.1", "--give-up-after", "0")
    with project.source.connect(autocommit=False) as blocker:
        blocker.execute("UPDATE tb_user SET name = name WHERE id = 1")
        project.step("cutover", *quick, check=-signal.SIGKILL, env={"CONFITURE_FAILPOINT": "failed.before_commit"})
        project.step("cutover", *quick, check=8)
    failed = "SELECT detail FROM confiture.event WHERE kind = 'failed'"
    assert project.new.rows(failed) == [({"command": "cutover", "error": "CutoverAborted"},)]
    project.step("cutover")


def test_no_message_contains_a_value_of_a_row(project: Project, hooks: Webhooks) -> None:
    notify(project, f"{{name: all, webhook: '{hooks.url('/accept')}'}}")
    project.source.sql("INSERT INTO tb_user VALUES (700777, 'canary', 'canary: no JSON', 'canary')")
    project.setup()
    assert "700777" in project.step("migrate", check=5).stderr
    project.source.sql("UPDATE tb_user SET settings_json = '{}' WHERE id = 700777")
    project.step("migrate")
    project.new.sql("UPDATE tb_user SET name = 'canary-name' WHERE id = 700777")
    project.step("verify", check=7)
    bodies = hooks.received("/accept")
    assert [body["event"] for body in bodies] == ["started", "blocked", "ready", "differences"]
    assert bodies[-1]["text"].endswith("source and target differ: 1 difference")
    assert "canary" not in str(bodies)
    assert "700777" not in str(bodies)
    project.step("cutover", check=4)  # what is refused is no event
    assert len(hooks.received("/accept")) == len(bodies)


def test_each_error_of_a_command_is_an_event_unless_the_operator_reads_it(project: Project, hooks: Webhooks) -> None:
    events = "[failed, halfway, blocked]"  # wording: the names of the events
    notify(project, f"{{name: all, webhook: '{hooks.url('/accept')}', events: {events}}}")
    project.reach("migrating")
    where = Endpoints(project.target, project=project.folder)
    expected: dict[Exception, str | None] = {
        CutoverAborted("a lock"): "failed",
        CannotConnect("the source"): "failed",
        ValueError("a defect"): "failed",
        CutoverUnfinished("closed"): "halfway",  # wording: the name of the event
        Blocked("a fact"): "blocked",
        Refused("no"): None,
        Held("another runner"): None,
        UsageError("an option"): None,
        Drained("a signal", signal_number=2): None,
    }
    for error, event in expected.items():
        before = len(hooks.requests)
        with pytest.raises(type(error)), hold_run(where, "cutover", Silent()):
            raise error
        notifier.wait_for_ended()
        assert [body["event"] for _, body in hooks.requests[before:]] == ([event] if event else []), error


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise, before Python 3.13
def test_an_event_reaches_a_receiver_of_apprise(project: Project, hooks: Webhooks) -> None:
    address = hooks.url("/accept").removeprefix("http://").partition("?")[0]
    notify(project, f"{{name: mine, apprise: 'json://{address}', events: started}}")
    project.setup()
    assert project.new.rows(SENT) == [("mine", "created", "sent", 1)]
    (body,) = hooks.received("/accept")
    assert "the run has begun" in body["message"]
