"""Differences that a checksum must detect, and that a simpler hash or comparison misses."""

from __future__ import annotations

from pathlib import Path

from live import LiveRun
from servers import Databases

#: Two rows per chunk, so that each swap lies within one checksum.
SWAPPED = """
CREATE TABLE item (id int PRIMARY KEY, a bigint, b bigint);
INSERT INTO item SELECT n, n * 7919, n * 104729 FROM generate_series(1, 60) n;
"""
#: For each column, its type, the value in the source, and another value that is equal or has the same simple hash.
ALIKE = {
    "a negative number": ("bigint", "-5", "4294967291"),
    "a numeric's scale": ("numeric", "1.0", "1.00"),
    "an interval's parts": ("interval", "'1 day'", "'24 hours'"),
    "a float's zero": ("float8", "0", "'-0'"),
    "json's order of keys": ("json", """'{"a":1,"b":2}'""", """'{"b":2,"a":1}'"""),
    "an array's bounds": ("int[]", "'{1,2}'", "'[0:1]={1,2}'"),
    "null or empty": ("text", "NULL", "''"),
    "trailing blanks": ("text", "'a'", "'a '"),
}


def run_of(databases: Databases, folder: Path, old: str, new: str) -> LiveRun:
    return LiveRun(databases, folder, old, new, chunk_rows=2).up_to_cutover()


def test_values_swapped_between_two_rows_are_found(databases: Databases, tmp_path: Path) -> None:
    live = run_of(databases, tmp_path, SWAPPED, SWAPPED.partition("INSERT")[0])
    live.tamper("UPDATE item SET b = o.b FROM item o WHERE o.id = item.id + CASE item.id % 2 WHEN 1 THEN 1 ELSE -1 END")
    found = {d.key["id"] for d in live.verify().differences if d.key is not None}
    assert found == {str(n) for n in range(1, 61)}


def test_values_that_look_alike_are_distinguished(databases: Databases, tmp_path: Path) -> None:
    names = {name: f"t{number}" for number, name in enumerate(ALIKE)}
    tables, rows, tampered = "", "", ""
    for name, (kind, value, other) in ALIKE.items():
        tables += f"CREATE TABLE {names[name]} (id int PRIMARY KEY, v {kind});"
        rows += f"INSERT INTO {names[name]} VALUES (1, {value});"
        tampered += f"UPDATE {names[name]} SET v = {other};"
    live = run_of(databases, tmp_path, tables + rows, tables)
    live.tamper(tampered)
    found = {(d.subject, d.column_name) for d in live.verify().differences}
    assert found == {(f"public.{table}", "v") for table in names.values()}
