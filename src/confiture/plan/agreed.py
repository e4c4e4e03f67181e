"""A plan that was agreed on before: what differs between it and the plan that would be carried out now. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from confiture.plan.model import UNRECORDED, Plan
from confiture.types import Json, TableRef, quoted

#: Lists of the plan, each with what identifies one of its items.
_LISTS = {"tables": "target", "reverse": "target", "sequences": "target", "reverse_sequences": "target"}
_SUBJECTS = {
    "tables": "table {}",
    "reverse": "the rollback of table {}",
    "sequences": "sequence {}",
    "reverse_sequences": "the rollback of sequence {}",
}

#: Other parts of the plan whose names are not those of their keys.
_NAMES = {"ddl": "the hash of the DDL files", "captured": "capture of the application's writes"}


def changes(agreed: Plan, now: Plan) -> list[str]:
    """Return one sentence for each change between two plans; empty when their hashes are equal.

    :param now: the plan that would be carried out.
    """
    if agreed.hash == now.hash:
        return []
    before, after = ({**UNRECORDED, **plan.hashed()} for plan in (agreed, now))
    found: list[str] = []
    for name in before:
        if name in _LISTS:
            found += _of_list(_SUBJECTS[name], before[name], after[name])
        elif before[name] != after[name]:
            found.append(f"{_NAMES.get(name, name.replace('_', ' '))}: {_was(before[name], after[name])}")
    return found


def _of_list(subject: str, before: list[Json], after: list[Json]) -> Iterator[str]:
    old, new = ({_name(item["target"]): item for item in items} for items in (before, after))
    for name in dict.fromkeys((*old, *new)):
        said = subject.format(name)
        if name not in new:
            yield f"{said} is only in the given plan"
        elif name not in old:
            yield f"{said} is not in the given plan"
        else:
            yield from (f"{said}: {change}" for change in _of_item(old[name], new[name]))


def _of_item(before: Json, after: Json) -> Iterator[str]:
    for key in before:
        if key == "columns" and "source" in before:  # those of a table, not those that a sequence fills
            yield from _of_columns(before[key], after[key])
        elif before[key] != after[key]:
            yield f"{key.replace('_', ' ')}: {_was(before[key], after[key])}"


def _of_columns(before: list[Json], after: list[Json]) -> Iterator[str]:
    old, new = ({item["target"]: item for item in items} for items in (before, after))
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield f"column {quoted(name)}: {_was(old.get(name), new.get(name))}"
    if list(old) != list(new) and old.keys() == new.keys():
        yield "its columns have another order"


def _name(ref: Mapping[str, str]) -> str:
    return str(TableRef(ref["schema"], ref["name"]))


def _was(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in before if before[key] != after.get(key)]
        before, after = ({key: value[key] for key in keys} for value in (before, after))
    return f"{_text(before)} in the given plan, {_text(after)} now"


def _text(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
