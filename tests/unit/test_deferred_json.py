"""A deferred object and the form in which the journal and the source store it."""

from __future__ import annotations

from typing import Any

import pytest

from confiture.journal.model import (
    Deferred,
    DeferredCheck,
    DeferredConstraint,
    DeferredForeignKey,
    DeferredIndex,
    DeferredPublication,
    DeferredRule,
    DeferredStatus,
    DeferredTrigger,
    deferred_as_json,
    deferred_from_json,
)
from confiture.types import KeyOperator, TableRef

TABLE = TableRef("public", "child")
NAMED: dict[str, Any] = {"table": TABLE, "name": "it", "definition": "as declared"}
EQUALS = KeyOperator("OPERATOR(pg_catalog.=)", "integer", "bigint", None)
KEY = DeferredForeignKey(
    **NAMED,
    comment="of a key",
    status=DeferredStatus.INTERIM,
    interim="as relaxed",
    interim_name="confiture_interim_0",
    partitioned=True,
    by_leaf=True,
    plain=False,
    deferrable=True,
    deferred=False,
    validated=True,
    references=TableRef("other", "parent"),
    columns=("a", "b"),
    ref_columns=("c", "d"),
    period=True,
    operators=(EQUALS, EQUALS),
)
KEY_DETAIL = {
    "interim_name": "confiture_interim_0",
    "partitioned": True,
    "by_leaf": True,
    "whole": False,
    "plain": False,
    "deferrable": True,
    "deferred": False,
    "validated": True,
    "references": ["other", "parent"],
    "columns": ["a", "b"],
    "ref_columns": ["c", "d"],
    "period": True,
    "operators": [
        {"operator": "OPERATOR(pg_catalog.=)", "left_type": "integer", "right_type": "bigint", "collation": None}
    ]
    * 2,
}
MARKS = {"key": [], "statistics": [], "clustered": False, "replica_identity": False}
INDEX = {
    **MARKS,
    "tablespace": "fast",
    "level": 1,
    "parent": ["public", "above"],
    "statistics": [[1, 300]],
    "clustered": True,
}


def stored(kind: str, detail: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The form of an object of that kind, off and without a comment but for ``more``."""
    common = {
        "table": {"schema": "public", "name": "child"},
        "name": "it",
        "definition": "as declared",
        "interim": None,
        "comment": None,
        "status": "off",
    }
    return {"kind": kind, **common, "detail": detail, **more}


@pytest.mark.parametrize(
    ("item", "form"),
    [
        (
            DeferredIndex(
                **NAMED,
                tablespace="fast",
                level=1,
                parent=TableRef("public", "above"),
                statistics=((1, 300),),
                clustered=True,
            ),
            stored("index", INDEX),
        ),
        (
            DeferredConstraint(
                **NAMED, key=("id",), options=("fillfactor=70",), index_comment="x", index="CREATE UNIQUE INDEX"
            ),
            stored(
                "constraint",
                {
                    **MARKS,
                    "key": ["id"],
                    "tablespace": None,
                    "level": 0,
                    "parent": None,
                    "options": ["fillfactor=70"],
                    "index_comment": "x",
                    "index": "CREATE UNIQUE INDEX",
                },
            ),
        ),
        (KEY, stored("foreign_key", KEY_DETAIL, interim="as relaxed", comment="of a key", status="interim")),
        (DeferredTrigger(**NAMED, enabled="A"), stored("trigger", {"enabled": "A"})),
        (DeferredRule(**NAMED, enabled="R"), stored("rule", {"enabled": "R"})),
        (
            DeferredCheck(**NAMED, level=-1, domain=False, inherited=True, status=DeferredStatus.BACK),
            stored("check", {"level": -1, "domain": False, "inherited": True, "valid_below": []}, status="back"),
        ),
        (DeferredPublication(**NAMED), stored("publication", {})),
    ],
    ids=lambda value: value.kind if isinstance(value, Deferred) else "",
)
def test_each_kind_is_read_back_as_it_was_stored(item: Deferred, form: dict[str, Any]) -> None:
    assert deferred_as_json(item) == form
    assert deferred_from_json(form) == item


def test_the_interim_of_a_plain_key_has_the_name_of_the_key() -> None:
    detail = {name: value for name, value in KEY_DETAIL.items() if name != "interim_name"}
    item = deferred_from_json(stored("foreign_key", detail))
    assert isinstance(item, DeferredForeignKey)
    assert (item.interim_name, item.standing) == ("it", "it")
    assert "interim_name" not in deferred_as_json(item)["detail"]


def test_a_record_without_values_of_its_own_is_as_the_defaults_say() -> None:
    assert deferred_from_json(stored("trigger", {})) == DeferredTrigger(**NAMED, enabled="O")
    assert deferred_from_json({**stored("publication", {}), "detail": None}) == DeferredPublication(**NAMED)
