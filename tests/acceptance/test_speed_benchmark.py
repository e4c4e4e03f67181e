"""benchmarks/speed.py with few rows: every part measures, and writes its table and its plot."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PARTS = re.findall(r"<!-- measured: (\w+) -->", (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("part", PARTS)
def test_part_of_the_speed_benchmark_writes_its_table(part: str, tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    shutil.copy(ROOT / "docs/benchmarks.md", page)
    before = page.read_text(encoding="utf-8")
    few = ("--rows", "400", "--rounds", "1")
    subprocess.run([sys.executable, "benchmarks/speed.py", part, *few, "--docs", tmp_path], cwd=ROOT, check=True)
    after = page.read_text(encoding="utf-8")
    section = re.search(f"<!-- measured: {part} -->\n(.*?)\n<!-- end: {part} -->", after, re.S)
    assert section is not None
    assert f"`python benchmarks/speed.py {part} --rows 400 --rounds 1`" in section[1]
    assert len(re.findall(r"^\| .* \d", section[1], re.M)) >= 3
    # Everything else stays as it is.
    measured = re.compile(f"<!-- measured: {part} -->.*?<!-- end: {part} -->", re.S)
    assert measured.sub("", after) == measured.sub("", before)
    if importlib.util.find_spec("matplotlib") is not None:
        ElementTree.parse(tmp_path / f"images/benchmark-{part}.svg")


def test_a_part_that_does_not_exist_is_refused() -> None:
    done = subprocess.run([sys.executable, "benchmarks/speed.py", "jbos"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no such part: jbos" in done.stderr
