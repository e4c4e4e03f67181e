"""From an empty folder to a finished move, with what the commands print."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from confiture import mapping
from confiture.config import resolve
from confiture.errors import Refused
from confiture.masking import mask_file
from confiture.postgres import embedded
from conftest import ROOT, Confiture
from servers import Databases, TestDatabase

PEOPLE = "CREATE TABLE tb_user (id integer PRIMARY KEY, name text NOT NULL);"


def test_init_leads_from_an_empty_folder_to_a_finished_move(
    databases: Databases, tmp_path: Path, confiture: Confiture
) -> None:
    source = databases.cloned(PEOPLE + "INSERT INTO tb_user SELECT n, 'u' || n FROM generate_series(1, 20) n")
    name = f"{source.name}_new"
    databases.adopt(name)
    environment = {"PROD_URL": source.conninfo}
    first = confiture("init", cwd=tmp_path, env=environment)
    assert first.returncode == 0, first.stderr
    assert "export PROD_URL=" in first.stdout
    (tmp_path / "db/schema/10_user.sql").write_text(PEOPLE)
    (plan,) = re.findall(r"confiture (migrate schema-to-schema plan .*)", first.stdout)
    assert confiture(*plan.split(), cwd=tmp_path, env=environment).returncode == 0
    (tmp_path / f"db/environments/{name}.yaml").write_text(f"like: prod\ndatabase: {name}\n")
    for step in ("setup --source prod", "migrate", "verify", "cutover", "cleanup --yes"):
        command, *options = step.split()
        words = ("migrate", "schema-to-schema", command, "--target", name, *options)
        done = confiture(*words, cwd=tmp_path, env=environment)
        assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    moved = TestDatabase(databases.server, name)
    assert moved.rows("TABLE tb_user ORDER BY id") == source.rows("TABLE tb_user ORDER BY id")


@pytest.mark.parametrize(
    "words", [("status",), *(("migrate", "schema-to-schema", n, "--source", "prod") for n in ("plan", "setup"))]
)
def test_an_empty_folder_shows_a_file_that_works_as_printed(
    tmp_path: Path, confiture: Confiture, words: tuple[str, ...]
) -> None:
    target = () if words == ("status",) else ("--target", "prod_new")
    printed = confiture(*words, *target, cwd=tmp_path).stderr
    assert "confiture init" in printed
    path, text = re.search(r"write (\S+):\n(.*)", printed, re.DOTALL).groups()  # type: ignore[union-attr]
    Path(path).parent.mkdir(parents=True)
    Path(path).write_text(text)
    assert resolve("prod", tmp_path).dbname == "DATABASE"


def test_init_never_overwrites(tmp_path: Path, confiture: Confiture) -> None:
    assert confiture("init", "shop", cwd=tmp_path).returncode == 0
    file = tmp_path / "db/environments/shop.yaml"
    file.write_text("database_url: postgresql://kept\n")
    done = confiture("init", "shop", "--url", "postgresql://other", cwd=tmp_path)
    assert done.returncode == 4
    assert file.read_text() == "database_url: postgresql://kept\n"


LAID_OUT = (
    "column_mapping.yaml",
    "db/environments/prod.yaml",
    "db/migrations/README.md",
    "db/schema/README.md",
    "db/sync/mask.yaml",
)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_init_lays_out_a_project(tmp_path: Path, confiture: Confiture) -> None:
    done = confiture("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tuple(files(tmp_path)) == LAID_OUT
    assert [name for name in LAID_OUT if f"wrote {name}" not in done.stdout] == []
    assert stat.S_IMODE((tmp_path / "db/sync/mask.yaml").stat().st_mode) == 0o644


@pytest.mark.parametrize("there", LAID_OUT)
def test_init_keeps_each_existing_file_and_writes_the_others(tmp_path: Path, confiture: Confiture, there: str) -> None:
    mine = b"# mine\r\ndatabase_url: postgresql://kept\n\xff"
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(mine)
    first = confiture("init", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"kept {there}, which exists" in first.stdout
    found = files(tmp_path)
    assert tuple(found) == LAID_OUT
    assert found[there] == mine
    again = confiture("init", cwd=tmp_path)
    assert again.returncode == 0
    assert "wrote" not in again.stdout
    assert files(tmp_path) == found


def test_init_follows_no_link_and_keeps_a_folder(tmp_path: Path, confiture: Confiture) -> None:
    (tmp_path / "column_mapping.yaml").symlink_to(tmp_path / "outside")
    (tmp_path / "db/sync/mask.yaml").mkdir(parents=True)
    assert confiture("init", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "outside").exists()
    assert (tmp_path / "db/sync/mask.yaml").is_dir()


def test_examples_of_init_mask_and_map_nothing_until_uncommented(tmp_path: Path, confiture: Confiture) -> None:
    assert confiture("init", cwd=tmp_path).returncode == 0
    for path, parse in (("column_mapping.yaml", mapping.parse), ("db/sync/mask.yaml", mask_file.parse)):
        text = (tmp_path / path).read_text()
        found, faults = parse(text, path)
        assert (found.tables, faults) == ((), ())
        example = "\n".join(line.removeprefix("# ") for line in text.partition("\n\n")[2].splitlines())
        found, faults = parse(example, path)
        assert faults == ()
        assert len(found.tables) == 1
    refused = confiture("build", cwd=tmp_path)
    assert refused.returncode == 2
    assert "0 *.sql files" in refused.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@db.example:5433/shop?sslmode=require",
        "host=db.example dbname='the shop'",
        "${SHOP_DB}",
        "postgresql://me:${SHOP_PASSWORD}@db.example/shop",
    ],
)
def test_init_writes_an_address_that_is_read_again(
    tmp_path: Path, confiture: Confiture, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    done = confiture("init", "shop", "--url", url, "--project", str(tmp_path / "made"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--project" in done.stdout
    monkeypatch.setenv("SHOP_DB", "host=db.example dbname=shop")
    monkeypatch.setenv("SHOP_PASSWORD", "x")
    assert "host=db.example" in resolve("shop", tmp_path / "made").conninfo
    assert stat.S_IMODE(os.stat(tmp_path / "made/db/environments/shop.yaml").st_mode) == 0o600


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:hunter2@db/shop", "host=db password=hunter2", "me:hunter2@db/shop", "postgresql://h:hunter2"],
)
def test_init_neither_stores_nor_prints_a_password(tmp_path: Path, confiture: Confiture, url: str) -> None:
    done = confiture("init", "--url", url, cwd=tmp_path)
    assert done.returncode == 2
    assert "hunter2" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", ""])
def test_init_refuses_a_name_that_is_no_file_name(tmp_path: Path, confiture: Confiture, name: str) -> None:
    assert confiture("init", name, cwd=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_without_the_server_the_demo_names_three_ways_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Refused) as refused:
        embedded.bundled()
    for way in ("pip install", "pipx inject confiture", "uv pip install --python"):
        assert f"{way} " in refused.value.fix
    assert f'"{embedded.PACKAGE}"' in (ROOT / "pyproject.toml").read_text()


def test_schema_lists_the_names_and_prints_each(tmp_path: Path, confiture: Confiture) -> None:
    names = confiture("schema", cwd=tmp_path).stdout.split()
    assert names == sorted(path.stem for path in (ROOT / "src/confiture/schemas").glob("*.json"))
    page = (ROOT / "docs/schemas.md").read_text()
    for name in names:
        printed = confiture("schema", name, cwd=tmp_path).stdout
        assert json.loads(printed)["$id"] == f"confiture/{name}.json"
        assert f"(../src/confiture/schemas/{name}.json)" in page


def test_command_without_its_groups_is_found(tmp_path: Path, confiture: Confiture) -> None:
    for words in (("cutover",), ("migrate", "verify", "--target", "x")):
        done = confiture(*words, cwd=tmp_path)
        assert done.returncode == 2
        step = next(word for word in words if word != "migrate")
        assert f"Did you mean: confiture migrate schema-to-schema {step}" in done.stderr
    assert "Did you mean: " not in confiture("cutoverr", cwd=tmp_path).stderr


def test_schema_suggests_a_name(tmp_path: Path, confiture: Confiture) -> None:
    done = confiture("schema", "staus", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean status?" in done.stderr
