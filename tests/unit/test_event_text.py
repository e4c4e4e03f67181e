"""The words in which the page, the report and the history print an event."""

from __future__ import annotations

from typing import Any

import pytest

from confiture.status.event_text import event_text

FORECAST = {"forecast": {"seconds": 7200.4, "target_disk": {"total": 3 << 30}}, "database_bytes": 8763071}
REHEARSED = {"command": "cutover", "seconds": 0.18619, "limit": 5.0, "parts": [{"name": "lock", "seconds": 0.02}]}


@pytest.mark.parametrize(
    ("kind", "detail", "text"),
    [
        ("created", {"source": "prod", "target": "prod_new"}, "prod -> prod_new"),
        ("planned", {"tables": 2, "plan": "ea800fba98be035f63"}, "2 tables, plan ea800fba98be"),
        ("forecast recorded", FORECAST, "2 hours until a cutover, the target needs 3.0 GiB"),
        ("throttle", {"max_rate": 30000, "max_backlog": None}, "max rate 30000"),
        ("throttle", {"max_rate": None, "max_backlog": None}, "no limit"),
        ("rehearsed", REHEARSED, "cutover, 0.186 s of at most 5 s"),
        ("write pause", {"command": "rollback", "seconds": 0.2, "limit": None}, "rollback, 0.200 s"),
        ("differences", {"count": 1200}, "1,200 differences"),
        ("repair", {"table": "public.t", "keys": 1}, "public.t: 1 key"),
        ("verify", {"verification": 3}, "verification 3"),
        ("reads open", {"max_staleness": 30}, "at most 30 seconds behind"),
        ("granted", {"viewers": ["anna", "odd one"], "operators": ["ben"]}, 'viewers anna, "odd one"; operators ben'),
        ("granted", {"viewers": [], "operators": ["ben"]}, "operators ben"),
        ("copied", {}, ""),
    ],
)
def test_event_is_printed_in_words(kind: str, detail: dict[str, Any], text: str) -> None:
    assert event_text(kind, detail) == text


def test_values_of_a_row_are_not_part_of_the_words() -> None:
    detail = {"table": "public.t", "key": {"id": "4711"}, "sqlstate": "22001", "value": "a secret"}
    assert event_text("bad row", detail) == "public.t"
