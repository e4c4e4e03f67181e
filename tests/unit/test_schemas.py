"""The JSON schemas that the package contains are those of the types of its documents."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest

SCRIPT = Path(__file__).parents[2] / "docs/generate_schemas.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_schemas", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _script()


@pytest.mark.parametrize("name", GENERATE.DOCUMENTS)
def test_each_committed_schema_is_the_one_of_its_types(name: str) -> None:
    committed = (GENERATE.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert committed == GENERATE.document(name), "run: python docs/generate_schemas.py"
    jsonschema.Draft202012Validator.check_schema(json.loads(committed))


def test_every_schema_of_the_package_is_generated() -> None:
    assert {path.stem for path in GENERATE.FOLDER.glob("*.json")} == set(GENERATE.DOCUMENTS)
