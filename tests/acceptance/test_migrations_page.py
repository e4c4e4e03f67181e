"""The commands of the page on migrations run as written, in their order, on a new database."""

from __future__ import annotations

from pathlib import Path

from test_docs import blocks, commands

from conftest import ROOT
from forked import Forks
from migrating import MigrationProject
from servers import Databases

PAGE = ROOT / "docs" / "migrations.md"
#: The exit code of ``status`` before and after the migration.
STATUS = [1, 0]


def test_the_commands_of_the_page_run_as_written(databases: Databases, forks: Forks, tmp_path: Path) -> None:
    project = MigrationProject(tmp_path, databases.cloned("CREATE TABLE customer (id int PRIMARY KEY)"), forks)
    expected = iter(STATUS)
    seen = set()
    for words in commands(PAGE, "console"):
        done = forks.run(words, project.folder)
        code = next(expected) if "status" in words else 0
        assert done.code == code, f"{words}\n{done.out}\n{done.err}"
        seen.add(words[1])
        if "generate" in words:
            for path in project.migrations.iterdir():
                path.unlink()  # the page has another version
            for text in blocks(PAGE, "sql"):
                name, _, body = text.partition("\n")
                if name.startswith("-- db/"):
                    (project.folder / name.removeprefix("-- ")).write_text(body)
    assert seen == {"generate", "status", "up", "down", "baseline"}
    assert [row[:2] for row in project.ledger] == [(20261127153000, "add_email_to_customer")]
