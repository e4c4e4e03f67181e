"""A source whose locale provider the target's server lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture import commands
from confiture.commands.endpoints import Endpoints
from confiture.errors import Refused
from live import LiveRun
from servers import Databases, TestDatabase

ITEM = "CREATE TABLE item (id int PRIMARY KEY, name text);"
#: From, to, and whether the target's server has the provider ``builtin``. The packages are built without ICU.
CASES = [("18", "16", False), ("17", "14", False), ("18", "17", True), ("17", "18", True)]


def moved(pair: tuple[Databases, Databases], folder: Path) -> LiveRun:
    live = LiveRun(pair[0], folder, ITEM, ITEM, apart=pair[1])
    live.source = pair[0].make(options="LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'")
    live.source.sql(f"{ITEM} INSERT INTO item SELECT n, 'n' || n FROM generate_series(1, 9) n")
    live.target = TestDatabase(pair[1].server, f"{live.source.name}_new")
    pair[1].adopt(live.target.name)
    live.where = Endpoints(live.target.conninfo, live.source.conninfo, live.project)
    return live


@pytest.mark.parametrize(
    ("pair", "known"),
    [pytest.param((old, new), known, id=f"{old}_to_{new}") for old, new, known in CASES],
    indirect=["pair"],
)
def test_plan_prints_the_locale_with_which_setup_succeeds(
    pair: tuple[Databases, Databases], tmp_path: Path, known: bool
) -> None:
    live = moved(pair, tmp_path)
    created = commands.plan.make(live.where, live.choices).created or ""
    assert ("lacks the source's locale provider builtin" in created) is not known
    locale = created.rpartition("--locale ")[2] if not known else None
    if not known:
        with pytest.raises(Refused, match="encoding and locale"):
            live.setup()
    live.setup(locale=locale)
    live.migrate()
    assert live.verify().equal
