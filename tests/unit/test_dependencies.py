"""The page on dependencies lists every package that an installation contains."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from audit import judged
from confiture.errors import UsageError
from confiture.postgres import embedded
from confiture.runner.context import Context
from confiture.schema_to_schema import jobs
from conftest import ROOT

PAGE = Path(__file__).parents[2] / "docs/dependencies.md"


def _installed(name: str, found: set[str]) -> None:
    """Add a package and everything that it requires, without extras, except psycopg's binary package."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    try:
        required = distribution(name).requires or []
    except PackageNotFoundError:
        return  # not for this platform or this version of Python
    if name in found:
        return
    found.add(name)
    for requirement in required:
        if "win32" in requirement or "Windows" in requirement:
            continue  # another package of this environment may have installed it
        if "extra ==" not in requirement or (name, "binary" in requirement) == ("psycopg", True):
            match = re.match(r"[A-Za-z0-9_.-]+", requirement)
            assert match is not None
            _installed(match[0], found)


def test_page_lists_every_package_that_is_installed() -> None:
    found: set[str] = set()
    _installed("confiture", found)
    rows = re.findall(r"^\| ([a-z0-9, -]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")} - {"package"}
    assert found - {"confiture"} <= listed
    # By the version of Python, of SQLAlchemy and of pydantic.
    assert listed - found <= {"typing-extensions", "greenlet", "typing-inspection"}


SAFE = {"name": "six", "version": "1.17.0", "vulns": []}
FAULTY = {"name": "rich", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "typer", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "text"),
    [
        ([SAFE], 0, "1 of 1 packages audited"),
        ([SAFE, FAULTY, UNKNOWN], 1, "rich 1.0: PYSEC-1, fixed in 1.1"),
        ([SAFE, UNKNOWN], 2, "not audited: typer"),
        ([], 2, "not audited: any package"),
    ],
)
def test_audit_passes_only_if_every_package_was_looked_up(packages: list[dict[str, Any]], code: int, text: str) -> None:
    found, printed = judged({"dependencies": packages})
    assert found == code
    assert text in printed


def test_errors_name_the_packages_of_the_extras_and_not_confiture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert (extras["embedded"], extras["distributed"]) == ([embedded.PACKAGE], [jobs.PACKAGE])
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "confiture.runner.cluster", raising=False)
    with pytest.raises(UsageError) as refused:
        jobs._cluster(Context.__new__(Context), "dask=tcp://scheduler:8786", None)
    assert f"pip install '{jobs.PACKAGE}'" in refused.value.fix
