"""PgBouncer's configuration: one address changes, and every other byte stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confiture.errors import Refused
from confiture.pooler import config_file
from confiture.pooler.config_file import Address

NEW = Address("10.0.0.9", 5433, "prod_new")
MAIN = Path("/etc/pgbouncer/pgbouncer.ini")


def found(files: dict[str, str] | str, pool: str = "app") -> config_file.Entry | None:
    texts = {str(MAIN): files} if isinstance(files, str) else files
    return config_file.find(MAIN, pool, lambda path: texts[str(path)])


def rewritten(text: str, pool: str = "app") -> str:
    entry = found(text, pool)
    assert entry is not None
    return entry.changed(config_file.repointed(entry.value, NEW)).decode("latin-1")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("host=a port=1 dbname=b", "host=10.0.0.9 port=5433 dbname=prod_new"),
        ("dbname=b", "dbname=prod_new host=10.0.0.9 port=5433"),
        ("", "host=10.0.0.9 port=5433 dbname=prod_new"),
        (
            "user=u  password='it''s = host=x' host = 'a b'   pool_size=3",
            "user=u  password='it''s = host=x' host = 10.0.0.9   pool_size=3 port=5433 dbname=prod_new",
        ),
        ("host=a host=b auth_dbname=b", "host=10.0.0.9 host=10.0.0.9 auth_dbname=b port=5433 dbname=prod_new"),
    ],
)
def test_only_the_address_changes(before: str, after: str) -> None:
    assert config_file.repointed(before, NEW) == after
    assert config_file.address(after, "app") == NEW


def test_a_missing_setting_has_the_default_of_pgbouncer() -> None:
    assert config_file.address("", "app") == Address(None, 5432, "app")
    assert config_file.address("host='it''s' port=6 dbname='a b'", "app") == Address("it's", 6, "a b")


def test_comments_blank_lines_and_other_pools_stay() -> None:
    text = "; app = host=x\n[databases]\n# app = host=x\no = host=o\n\tapp\t=\t host=a  \r\n\n[pgbouncer]\napp = 1\n"
    entry = found(text)
    assert entry is not None
    assert entry.value == "host=a"
    into = "host=10.0.0.9 port=5433 dbname=prod_new"
    assert rewritten(text) == text.replace("host=a ", f"{into} ")


def test_the_last_entry_of_a_name_applies_and_quoted_names_are_read() -> None:
    entry = found("[databases]\napp = host=a\napp = host=b\n")
    assert entry is not None
    assert entry.value == "host=b"
    quoted = found('[databases]\n"my ""app""" = host=a\n', 'my "app"')
    assert quoted is not None
    assert found('[databases]\n"app" = host=a\n') is not None
    assert found("[users]\napp = host=a\n[databases]\n* = host=a\n") is None


def test_an_entry_is_found_in_included_files_that_continue_a_section() -> None:
    files = {
        str(MAIN): "[databases]\n%include pools.ini\n%include /srv/more.ini\n[pgbouncer]\n",
        "/etc/pgbouncer/pools.ini": "app = host=a\n",
        "/srv/more.ini": "[users]\napp = host=b",
    }
    entry = found(files)
    assert entry is not None
    assert (entry.path, entry.value) == (Path("/etc/pgbouncer/pools.ini"), "host=a")


@pytest.mark.parametrize("text", ["[databases\n", "[databases]\napp host=a\n", '[databases]\n"app = host=a\n'])
def test_a_file_that_pgbouncer_cannot_parse_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="cannot be parsed"):
        found(text)


def test_a_file_that_includes_itself_is_refused() -> None:
    with pytest.raises(Refused, match="too deeply"):
        found(f"%include {MAIN}\n")


def test_a_refused_connection_string_is_reported_without_its_password() -> None:
    with pytest.raises(Refused) as error:
        config_file.repointed("password='canary", NEW)
    assert "canary" not in " ".join(error.value.lines())


def quoted(text: str) -> str:
    """The text as a user quotes it, in a UTF-8 file that is read as Latin-1."""
    return "'" + text.encode().decode("latin-1").replace("'", "''") + "'"


words = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1, max_size=8)
addresses = st.builds(Address, words, st.integers(1, 65535), words)
settings = st.lists(st.tuples(st.sampled_from(["user", "password", "pool_size", "timezone"]), words), max_size=4)
lines = st.lists(st.sampled_from(["", "; app = x", "# é", "other = host=o", "  ", "[databases]"]), max_size=4)


@given(addresses, addresses, settings, lines, lines)
def test_in_any_file_only_the_address_changes(
    old: Address, new: Address, others: list[tuple[str, str]], above: list[str], below: list[str]
) -> None:
    kept = [f"{key}={quoted(text)}" for key, text in others]
    value = " ".join([f"host={quoted(old.host or '')}", *kept, f"port={old.port}", f"dbname={quoted(old.dbname)}"])
    head, tail = "\n".join(["[databases]", *above, "app = "]), "\n" + "\n".join(below)
    entry = found(head + value + tail)
    assert entry is not None
    assert entry.value == value
    assert config_file.address(entry.value, "app") == old
    changed = entry.changed(config_file.repointed(entry.value, new)).decode("latin-1")
    assert changed.startswith(head)
    assert changed.endswith(tail)
    again = found(changed)
    assert again is not None
    assert config_file.address(again.value, "app") == new
    assert config_file.repointed(again.value, new) == again.value
    assert all(part in again.value for part in kept)


def test_a_file_is_replaced_atomically_and_keeps_its_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.ini", tmp_path / "link.ini"
    real.write_bytes(b"old \xff")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 65534, 65534)
    link.symlink_to(real)
    before = real.stat()
    (tmp_path / ".real.ini.confiture").write_bytes(b"left by a crash")
    config_file.refuse_unwritable(link)
    config_file.replace(link, b"new \xff")
    after = real.stat()
    assert (link.is_symlink(), real.read_bytes()) == (True, b"new \xff")
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.ini", "real.ini"]
