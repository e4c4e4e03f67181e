"""The files of incremental migrations: their names, their faults, and the two that ``generate`` writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from confiture.errors import FaultyInput, UsageError
from confiture.incremental import files

NOW = datetime(2026, 11, 27, 15, 30, tzinfo=UTC)


def write(folder: Path, **texts: str) -> None:
    """Files by name: ``v1_a_up`` is the one that applies version 20260101000001, named a."""
    for key, text in texts.items():
        number, name, direction = key.split("_")
        path = folder / f"202601010000{int(number[1:]):02}_{name}.{direction}.sql"
        path.write_text(text, encoding="utf-8")


def faults(folder: Path) -> list[str]:
    with pytest.raises(FaultyInput) as raised:
        files.read(folder)
    return [str(fault).replace(f"{folder}/", "") for fault in raised.value.faults]


def refused(folder: Path) -> list[str]:
    with pytest.raises(FaultyInput) as raised:
        files.statements([migration.up for migration in files.read(folder)])
    return [str(fault).rpartition("/")[2] for fault in raised.value.faults]


def test_a_folder_that_does_not_exist_has_no_migrations(tmp_path: Path) -> None:
    assert files.read(tmp_path / "nowhere") == ()


def test_migrations_are_ordered_by_their_versions(tmp_path: Path) -> None:
    write(tmp_path, v2_a_up="SELECT 2", v1_b_up="SELECT 1", v1_b_down="SELECT 0")
    first, second = files.read(tmp_path)
    assert (first.label, second.label) == ("20260101000001_b", "20260101000002_a")
    assert first.down is not None
    assert second.down is None


def test_every_fault_of_a_name_is_reported_together(tmp_path: Path) -> None:
    write(tmp_path, v1_a_up="", v1_b_up="", v2_c_down="", v3_d_up="", v3_e_down="")
    (tmp_path / "1_short.up.sql").touch()
    (tmp_path / "20261399000000_no_such_month.up.sql").touch()
    (tmp_path / "20260101000008_capitals.UP.SQL").touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "20260101000009_z.up.sql").touch()
    found = "\n".join(faults(tmp_path))
    assert "1_short.up.sql:1:1: the name of the file is not that of a migration" in found
    assert "20260101000008_capitals.UP.SQL:1:1: the name of the file is not that" in found
    assert "20261399000000_no_such_month.up.sql:1:1: the name of the file" in found
    assert "b.up.sql:1:1: two files have the version 20260101000001 (20260101000001_a.up.sql has it too" in found
    assert "20260101000002_c.up.sql is missing" in found
    assert "e.down.sql:1:1: two files have the version 20260101000003" in found
    assert "below/20260101000009_z.up.sql:1:1: a migration is not read from a folder below" in found
    assert found.count("\n") == 6


def test_other_files_of_the_folder_are_ignored(tmp_path: Path) -> None:
    for name in ("README.md", ".20260101000001_hidden.up.sql", "20260101000001_a.up.sql~"):
        (tmp_path / name).touch()
    assert files.read(tmp_path) == ()


def test_a_checksum_is_the_same_for_both_kinds_of_line_ends(tmp_path: Path) -> None:
    (tmp_path / "20260101000001_a.up.sql").write_bytes(b"SELECT 1;\r\nSELECT 2;\r\n")
    (tmp_path / "20260101000002_b.up.sql").write_bytes(b"\xef\xbb\xbfSELECT 1;\nSELECT 2;\n")
    (tmp_path / "20260101000003_c.up.sql").write_bytes(b"SELECT 1;\nSELECT 2; \n")
    one, same, other = (migration.up.checksum for migration in files.read(tmp_path))
    assert one == same != other


@pytest.mark.parametrize(
    ("text", "transactional"),
    [
        ("-- confiture: no-transaction\nSELECT 1", False),
        ("--confiture:no-transaction \r\nSELECT 1", False),
        ("-- a comment\nSELECT 1", True),
        ("SELECT 1", True),
    ],
)
def test_the_first_line_decides_about_the_transaction(tmp_path: Path, text: str, transactional: bool) -> None:
    write(tmp_path, v1_a_up=text)
    (migration,) = files.read(tmp_path)
    assert migration.up.transactional == transactional
    assert len(files.statements([migration.up])[migration.up.path]) == 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-- nothing\n", "1:1: the file contains no statement"),
        ("SELECT 1;\n-- confiture: no-transaction", "2:1: -- confiture: no-transaction has no effect here"),
        ("-- confiture: no_transaction\nSELECT 1", "1:1: unknown comment for confiture: no_transaction"),
        ("BEGIN;\nSELECT 1", "1:1: BEGIN cannot be part of a migration (delete it: the migration already is one"),
        ("SELECT 1;\n COMMIT", "2:2: COMMIT cannot be part of a migration"),
        ("COPY t TO STDOUT", "1:1: COPY T TO STDOUT cannot be part of a migration (delete it: its output"),
        ("COPY t FROM stdin;\n1\n\\.\n", "1:1: COPY FROM stdin reads data from the file"),
        ("\\i other.sql", "1:1: \\i is a psql command"),
        (
            "CREATE INDEX CONCURRENTLY i ON t (a)",
            "1:1: CREATE INDEX CONCURRENTLY cannot run in a transaction",
        ),
        ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", "1:1: REINDEX CONCURRENTLY cannot run in a transaction"),
        ("VACUUM t", "1:1: VACUUM cannot run in a transaction"),
        ("-- confiture: no-transaction\nBEGIN", "2:1: BEGIN cannot be part of a migration (delete it: each"),
        ("-- confiture: no-transaction\nCREATE INDEX CONCURRENTLY ON t (a)", "2:1: the index has no name"),
        ("-- confiture: no-transaction\nSET LOCAL search_path = a", "2:1: SET LOCAL has no effect, because each"),
        ("-- confiture: no-transaction\nLOCK TABLE t", "2:1: LOCK has no effect, because each statement"),
        ("-- confiture: no-transaction\nSAVEPOINT s", "2:1: SAVEPOINT has no effect, because each statement"),
        ("-- confiture: no-transaction\nROLLBACK TO s", "2:1: ROLLBACK has no effect, because each statement"),
        ("-- confiture: no-transaction\nCREATE TEMP TABLE t ()", "2:1: a temporary table cannot be part"),
    ],
)
def test_a_statement_that_cannot_run_is_named_with_its_place(tmp_path: Path, text: str, wanted: str) -> None:
    write(tmp_path, v1_a_up=text)
    (found,) = refused(tmp_path)
    assert found.startswith(f"20260101000001_a.up.sql:{wanted}")


def test_a_comment_for_the_linter_is_no_fault(tmp_path: Path) -> None:
    write(tmp_path, v1_a_up="-- confiture: allow lock-table\nLOCK TABLE a")
    (migration,) = files.read(tmp_path)
    assert len(files.statements([migration.up])[migration.up.path]) == 1


def test_the_faults_of_every_file_are_reported_together(tmp_path: Path) -> None:
    write(tmp_path, v1_a_up="BEGIN; VACUUM", v2_b_up="'open", v3_c_up="")
    assert len(refused(tmp_path)) == 4


def test_generate_writes_two_files_that_are_read_as_one_migration(tmp_path: Path) -> None:
    up, down = files.generate(tmp_path / "db", "Add e-mail to Customer", NOW)
    assert (up.name, down.name) == (
        "20261127153000_add_e_mail_to_customer.up.sql",
        "20261127153000_add_e_mail_to_customer.down.sql",
    )
    (migration,) = files.read(tmp_path / "db")
    assert migration.up.transactional
    (found,) = refused(tmp_path / "db")
    assert found.startswith(f"{up.name}:1:1: the file contains no statement (write one")


def test_a_generated_version_is_later_than_every_other(tmp_path: Path) -> None:
    (tmp_path / "20270101000000_of_the_future.up.sql").write_text("SELECT 1")
    (tmp_path / "20261127153059_c.down.sql").write_text("SELECT 1")
    assert files.generate(tmp_path, "b", NOW)[0].name == "20270101000001_b.up.sql"
    assert files.generate(tmp_path, "b", NOW)[0].name == "20270101000002_b.up.sql"


def test_processes_that_generate_at_the_same_time_get_other_versions(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda n: files.generate(tmp_path, f"m{n}", NOW)[0].name[:14], range(40)))
    assert len(set(written)) == 40
    assert len(files.read(tmp_path)) == 40


@pytest.mark.parametrize("name", ["", "é", "a/b", "..", "a.up"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a migration cannot have the name"):
        files.generate(tmp_path, name, NOW)
    assert list(tmp_path.iterdir()) == []
