"""The receivers under ``notify:`` of an environment: how they are read, and that no text contains their address."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tenacity

from confiture import config
from confiture.errors import FaultyInput
from confiture.notices import EVENTS, notice_of
from confiture.runner import delivery, notifier
from conftest import ROOT

PAGE = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
URL = "https://hooks.example.com/canary"


def written(project: Path, name: str, text: str) -> Path:
    """The project, with one more environment."""
    file = project / "db" / "environments" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return project


def test_receivers_are_inherited_until_an_environment_has_its_own(tmp_path: Path) -> None:
    both = (
        f"[{{name: oncall, webhook: '{URL}', events: [failed, blocked]}}, {{name: mail, apprise: 'mailto://canary'}}]"
    )
    written(tmp_path, "prod", f"database_url: postgresql:///app\nnotify: {both}\n")
    written(tmp_path, "prod_new", "like: prod\ndatabase: app_new\n")
    written(tmp_path, "quiet", "like: prod\ndatabase: app_new\nnotify: []\n")
    oncall, mail = config.resolve("prod_new", tmp_path).notify
    assert (oncall.name, oncall.kind, oncall.events) == ("oncall", "webhook", ("failed", "blocked"))
    assert (mail.name, mail.kind, mail.events) == ("mail", "apprise", tuple(EVENTS))
    assert config.resolve("quiet", tmp_path).notify == ()
    assert "canary" not in repr(config.resolve("prod_new", tmp_path)) + repr(oncall)


def test_variables_of_an_address_are_expanded_when_it_is_used(tmp_path: Path) -> None:
    address = f"{URL}/${{TOKEN}}/${{PART:-all}}"
    written(tmp_path, "prod", f"database_url: postgresql:///app\nnotify: [{{name: a, webhook: '{address}'}}]\n")
    (receiver,) = config.resolve("prod", tmp_path).notify  # status needs no token
    with pytest.raises(KeyError, match="TOKEN"):
        receiver.url({})
    assert receiver.url({"TOKEN": "t"}) == (f"{URL}/t/all", (f"{URL}/t/all", "t", "all"))


@pytest.mark.parametrize(
    ("receivers", "fault"),
    [
        ("oncall", "2:9: notify must be a list"),
        ("[oncall]", "2:10: a receiver must have a name and a URL"),
        (f"[{{webhook: '{URL}'}}]", "2:10: a receiver needs a name"),
        (f"[{{name: on call, webhook: '{URL}'}}]", "2:17: a receiver needs a name"),
        ("[{name: a}]", "2:10: a receiver needs one URL"),
        (f"[{{name: a, webhook: '{URL}', apprise: 'canary://'}}]", "2:10: a receiver needs one URL"),
        ("[{name: a, webhook: 'file:///canary'}]", "2:29: the URL of a webhook begins with https://"),
        (f"[{{name: a, webook: '{URL}'}}]", "did you mean webhook?"),
        (f"[{{name: a, webhook: '{URL}', events: [blockd]}}]", "did you mean blocked?"),
        (f"[{{name: a, webhook: '{URL}', events: []}}]", "a receiver without events"),
        (f"[{{name: a, webhook: '{URL}'}}, {{name: a, webhook: '{URL}'}}]", "the receiver 'a' is given twice"),
    ],
)
def test_faults_of_receivers_are_named_without_an_address(tmp_path: Path, receivers: str, fault: str) -> None:
    written(tmp_path, "prod", f"database_url: postgresql:///app\nnotify: {receivers}\n")
    with pytest.raises(FaultyInput) as raised:
        config.resolve("prod", tmp_path)
    assert fault in raised.value.why
    assert "canary" not in str(raised.value.lines())


def test_the_page_names_every_event_and_every_field_of_a_webhook() -> None:
    table = PAGE.partition("## Events")[2].partition("## Receivers")[0]
    assert re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE) == list(EVENTS)
    body = json.loads(re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])
    notice = notice_of(
        41, "differences", {"count": 3}, datetime.now(UTC), run="7f3a2b1c", source="prod", target="prod_new"
    )
    assert notice.as_json() | {"at": body["at"]} == body


def test_attempts_at_a_failing_receiver_end_with_the_command() -> None:
    wait = tenacity.wait_exponential(delivery.FIRST_PAUSE, delivery.LONGEST_PAUSE, delivery.PAUSE_FACTOR)
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    pauses = 0.0
    for state.attempt_number in range(1, delivery.ATTEMPTS):
        pauses += wait(state)
    assert 3 <= pauses <= notifier.END_SECONDS - 1  # a receiver that restarts, and the end of a command
