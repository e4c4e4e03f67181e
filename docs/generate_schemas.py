"""Write the JSON schemas of the commands' documents from their types: ``python docs/generate_schemas.py``."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

from confiture.lint.model import Finding, Level
from confiture.plan.forecast import Forecast
from confiture.plan.model import Plan
from confiture.render import documents as d
from confiture.status.facts import StatusDocument
from confiture.status.media import MigrationsReport, SyncRunReport
from confiture.status.sign_off import SignOff
from confiture.sync.outcome import SyncPlan, SyncReport

FOLDER = Path(__file__).parent.parent / "src/confiture/schemas"
#: The types whose keys a document has: each base is named, because a TypedDict does not know it.
DOCUMENTS: dict[str, tuple[type, ...]] = {
    "baseline": (d.Document, d.BaselineDocument),
    "build": (d.Document, d.BuildDocument),
    "check": (d.Document, d.CheckDocument),
    "generated": (d.Document, d.GeneratedDocument),
    "history": (d.Document, d.HistoryDocument),
    "lint": (d.Document, d.LintDocument),
    "migrations": (d.Document, d.MigrationsDocument),
    "migrations_dry_run": (d.Document, d.MigrationsDryRunDocument),
    "migrations_status": (d.Document, d.MigrationsStatusDocument),
    "plan": (d.Document, Plan, d.PlanDocument),
    "preview": (d.Document, d.PreviewDocument),
    "report": (SignOff,),
    "run": (d.Document, d.RunSummary, d.CommandResult, d.RunDocument),
    "status": (StatusDocument,),
    "sync": (d.Document, SyncReport, d.SyncDocument),
    "sync_plan": (d.Document, SyncPlan, d.SyncPlanDocument),
    "verification": (d.Document, d.RunSummary, d.VerificationDocument),
}
#: The types that ``documents`` and ``facts`` import for a type checker only.
_LATE = {
    "Forecast": Forecast,
    "Finding": Finding,
    "Level": Level,
    "MigrationsReport": MigrationsReport,
    "SyncRunReport": SyncRunReport,
}
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
_IVAR = re.compile(r":ivar (\w+): (.*?)(?=\s*:\w+ |\s*\Z)", re.DOTALL)

Schema = dict[str, Any]


def schema(hint: Any, defs: Schema) -> Schema:
    """The schema of a type; that of a dataclass or a TypedDict is added to ``defs``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Annotated, NotRequired):
        return schema(inner[0], defs) | (inner[1] if origin is Annotated else {})
    if origin in (Union, types.UnionType):
        return _or_null(schema(inner[0], defs))
    if origin is Literal:
        return {"enum": list(inner)} if len(inner) > 1 else {"const": inner[0]}
    if hint is Any:
        return {}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if hint is datetime:
        return {"type": "string", "format": "date-time"}
    if origin is None and issubclass(hint, Enum):  # by its texts, or by its names where it has numbers
        return {"enum": [member.value if isinstance(member, str) else member.name for member in hint]}
    if origin is None:
        defs.setdefault(hint.__name__, {"description": _summary(hint), **_keys(hint, defs)})
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema(inner[1], defs)}
    if origin is tuple and inner[-1] is not ...:
        return {"type": "array", "prefixItems": [schema(part, defs) for part in inner]}
    return {"type": "array", "items": schema(inner[0], defs)}


def _or_null(found: Schema) -> Schema:
    if "type" in found:
        return found | {"type": [found["type"], "null"]}
    return {"enum": [*found["enum"], None]} if "enum" in found else {"anyOf": [found, {"type": "null"}]}


def _keys(kind: type, defs: Schema) -> Schema:
    """The schema of an object with the keys of a dataclass or a TypedDict."""
    hints = get_type_hints(kind, localns=_LATE, include_extras=True)
    names = [f.name for f in fields(kind)] if is_dataclass(kind) else list(hints)
    said = {name: {"description": _plain(text)} for name, text in _IVAR.findall(kind.__doc__ or "")}
    required = [name for name in names if get_origin(hints[name]) is not NotRequired]
    properties = {name: schema(hints[name], defs) | said.get(name, {}) for name in names}
    return {"type": "object", "properties": properties, "required": required}


def _summary(kind: type) -> str:
    return _plain((kind.__doc__ or "").split("\n\n")[0])


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "").replace("None", "null").replace("True", "true").rstrip(".")


def document(name: str) -> str:
    """The schema of a document as the text of its file."""
    defs: Schema = {}
    properties: Schema = {}
    required: set[str] = set()
    for part in DOCUMENTS[name]:
        found = _keys(part, defs)
        for key, value in found["properties"].items():
            properties[key] = properties.get(key, {}) | value
        required |= set(found["required"])
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"confiture/{name}.json",
        "title": _summary(DOCUMENTS[name][-1]),
        "type": "object",
        "properties": properties,
        "required": [key for key in properties if key in required],
    }
    return json.dumps(head | ({"$defs": defs} if defs else {}), indent=2) + "\n"


if __name__ == "__main__":
    for each in DOCUMENTS:
        (FOLDER / f"{each}.json").write_text(document(each), encoding="utf-8")
