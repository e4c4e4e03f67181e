"""The file that ``plan --output`` writes and ``setup --plan`` reads: a plan that was agreed on."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from confiture.errors import Refused, UsageError
from confiture.plan import agreed
from confiture.plan.model import Plan, plan_from_json
from confiture.types import counted, grouped

#: Changes that a refusal names.
CHANGES_SHOWN = 20


def read(path: Path) -> Plan:
    """The plan of a file.

    :raises UsageError: when it cannot be read, or is not as ``plan --output`` wrote it.
    """
    document = _document(path)
    try:
        plan = plan_from_json({field.name: document[field.name] for field in fields(Plan) if field.name in document})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _unusable(path, f"{place}: {first['msg']}") from None
    if document["hash"] != plan.hash:
        raise _unusable(
            path, "its hash is not that of its plan: it was changed, or another version of Confiture wrote it"
        )
    return plan


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or "", fix=_FIX) from None
    except (ValueError, RecursionError):
        raise _unusable(path, "it is not JSON") from None
    if not isinstance(document, dict) or not {"hash", "tables"} <= document.keys():
        raise _unusable(path, "it has no plan and its hash")
    return document


def _with_strategies_of(given: Plan, plan: Plan) -> Plan:
    known = {t.target: t.strategy for t in given.tables}
    return replace(plan, tables=tuple(replace(t, strategy=known.get(t.target, t.strategy)) for t in plan.tables))


_FIX = "write the file with: confiture migrate schema-to-schema plan --output FILE"


def _unusable(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is not a plan that can be used", why=why, fix=_FIX)


def refuse_other(given: Plan | None, now: Plan, *, stored: bool = False) -> None:
    """Refuse a plan that is not the given one.

    :param given: None if any plan may be carried out.
    :param stored: whether ``now`` is the plan of a run. Storing it replaces postgres_fdw by COPY for a table whose key
        range is not shipped to the source.
    :raises Refused: naming what changed.
    """
    if given is None:
        return
    found = grouped(agreed.changes(given, _with_strategies_of(given, now) if stored else now))
    if found:
        more = len(found) - CHANGES_SHOWN
        rest = [f"and {counted(more, 'further change')}"] if more > 0 else []
        raise Refused(
            "what setup would do now is not the given plan",
            why="\n".join([f"hash {given.hash} in the given plan, {now.hash} now", *found[:CHANGES_SHOWN], *rest]),
            fix="give the mapping and the options that the plan was made with; or plan again with --output, and have"
            " the new plan agreed on",
        )
