"""The findings of the linter beside those of squawk, on the same statements, with the reason of each difference.

As a script, it prints the table of ``docs/lint.md``; it needs squawk: ``pip install 'squawk-cli==2.70.*'``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from lint_corpus import CASES, Case

#: Rules on style, and rules that ask each file for a setting. They concern no lock of the statement.
STYLE = frozenset(
    (
        "prefer-bigint-over-int",
        "prefer-bigint-over-smallint",
        "prefer-identity",
        "prefer-robust-stmts",
        "prefer-text-field",
        "prefer-timestamp-tz",
        "ban-char-field",
        "require-lock-timeout",
        "require-statement-timeout",
    )
)
#: The rule of squawk, and those of this linter that find the same.
SAME = {
    "adding-field-with-default": ("add-column-volatile-default", "add-column-identity", "add-column-stored-generated"),
    "adding-required-field": ("add-column-not-null",),
    "adding-foreign-key-constraint": ("foreign-key-without-not-valid",),
    "constraint-missing-not-valid": (
        "foreign-key-without-not-valid",
        "check-without-not-valid",
        "validate-in-same-transaction",
        "set-not-null",
        "unique-without-using-index",
        "primary-key-without-using-index",
        "exclusion-constraint",
    ),
    "adding-serial-primary-key-field": ("primary-key-without-using-index",),
    "disallowed-unique-constraint": ("unique-without-using-index",),
    "changing-column-type": ("alter-column-type",),
    "adding-not-nullable-field": ("set-not-null",),
    "ban-drop-default": ("drop-default",),
    "ban-drop-column": ("drop-column",),
    "ban-drop-table": ("drop-table",),
    "ban-drop-view": ("drop-object",),
    "ban-drop-function": ("drop-object",),
    "ban-drop-schema": ("drop-schema",),
    "ban-truncate-cascade": ("truncate-cascade",),
    "ban-set-schema": ("set-schema",),
    "ban-alter-domain-with-add-constraint": ("domain-constraint",),
    "require-concurrent-index-creation": ("create-index-without-concurrently",),
    "require-concurrent-index-deletion": ("drop-index-without-concurrently",),
    "require-concurrent-reindex": ("reindex-without-concurrently",),
    "require-concurrent-partition-detach": ("detach-without-concurrently",),
    "renaming-table": ("rename-table",),
    "renaming-column": ("rename-column",),
    "renaming-object": ("rename-view", "rename-schema", "rename-object"),
    "transaction-nesting": ("transaction-control",),
}
#: The reason of a difference, and the cases that it explains.
REASONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "A type that is wider in the same way, or has the same form on disk, rewrites and scans nothing.",
        (
            "wider varchar",
            "wider varchar with an index",
            "varchar to text",
            "varchar without a length",
            "text to varchar without a length",
            "wider varchar with a cast of the column",
            "numeric with more digits before the point",
            "numeric without limits",
            "timestamp with more digits",
            "timestamp without a number of digits",
            "longer varbit",
            "cidr to inet",
            "interval with all digits",
            "text to a domain without a constraint",
            "domain to its base type",
        ),
    ),
    (
        "The table is new: no other session uses it.",
        ("new table with everything", "constraint of a domain that no table uses"),
    ),
    (
        "A serial column rewrites the table, and so does an identity column, which squawk recommends instead.",
        ("serial column", "small serial column"),
    ),
    ("A virtual generated column (PostgreSQL 18) stores nothing.", ("virtual generated column",)),
    ("A domain with a constraint is checked by a rewrite.", ("column of a domain with a constraint",)),
    ("Each value of the new column is NULL, so that the server compares no row.", ("column with a foreign key",)),
    ("The check of a new column reads every row.", ("column with a check",)),
    (
        "An earlier statement proves that no value is NULL.",
        ("not null behind a validated check", "not null of a column that is it already"),
    ),
    (
        "A constraint that is not enforced is not checked.",
        ("foreign key that is not enforced", "foreign key that is no longer enforced"),
    ),
    ("The server compares every row when a constraint becomes enforced.", ("foreign key that becomes enforced",)),
    (
        "The server changes the catalog only. Programs that rely on the object are not broken by the lock; they may be"
        " by the change, as by any other.",
        ("not null in the safe order", "drop not null", "drop expression", "drop constraint"),
    ),
    (
        "Rows that are inserted without the column get NULL, and no insert fails.",
        ("drop default of a column that may be null",),
    ),
    ("A type that no table uses has no values.", ("attribute of a composite type",)),
    ("The stored values are computed again.", ("other expression of a generated column",)),
    (
        "The file itself has added, created or replaced the object.",
        (
            "drop the column that the file has added",
            "drop the table that the file has created",
            "replace a view by another",
            "rename column that the file has added",
        ),
    ),
    (
        "A name keeps its meaning: another object takes it in the same transaction.",
        ("rename table beneath a view", "swap two columns"),
    ),
    (
        "No query names an index, and only `ON CONFLICT ON CONSTRAINT` names a constraint.",
        ("rename index", "rename constraint"),
    ),
    (
        "The index makes the column NOT NULL, for which the server reads every row.",
        ("primary key on an index of a column that may be null",),
    ),
    (
        "Existing values are not read. The later validation is a finding of its own, because it blocks writes.",
        ("constraint of a domain that is not valid", "validation of a constraint of a domain"),
    ),
    ("SET NOT NULL of a domain reads every table with a column of it.", ("domain that forbids null",)),
    ("An index on the parent alone is empty.", ("index on the parent alone", "attach the index of a partition")),
    (
        "The server refuses the statement in a transaction. squawk accepts a file of one statement, which other tools"
        " run without a transaction; `migrate up` does not.",
        (
            "concurrent index in a transaction",
            "concurrent drop of an index in a transaction",
            "concurrent detach in a transaction",
            "vacuum in a transaction",
            "rebuild of a partitioned table in a transaction",
            "rebuild of the index of a new partitioned table in a transaction",
            "cluster of a new partitioned table in a transaction",
            "subscription in a transaction",
            "refresh of a subscription in a transaction",
            "setting of the server in a transaction",
        ),
    ),
    (
        "The server reads the partition, or the DEFAULT partition, or locks the parent against every query.",
        (
            "attach a partition",
            "attach a partition with a check of other bounds",
            "attach a list partition",
            "create a partition",
            "first default partition",
            "partition beside a default partition with rows",
        ),
    ),
    (
        "The whole table is stored again under ACCESS EXCLUSIVE. (squawk judges two of these from PostgreSQL 19 on.)",
        (
            "full vacuum",
            "full vacuum with options",
            "cluster",
            "unlogged",
            "other tablespace",
            "other access method",
            "refresh",
        ),
    ),
    ("CASCADE also drops what the statement does not name.", ("drop table with what depends on it",)),
    (
        "One transaction locks every row, or empties the table.",
        (
            "update of every row",
            "update of every row by its own value",
            "update of every row by a random value",
            "delete of every row",
            "truncate",
            "truncate a partitioned table",
        ),
    ),
    (
        "A lock is held while a slow statement runs, or while the transaction waits for another table.",
        (
            "new column that is filled at once",
            "new random column that is filled at once",
            "copy under a lock",
            "index under a lock on another table",
            "two tables in one transaction",
            "lock table",
        ),
    ),
    ("Each ALTER TABLE rewrites the table once more.", ("two rewrites of one table",)),
    (
        "The value cannot be used before the commit. squawk asks for its order in the type, which concerns no lock.",
        ("value of an enum that is used at once", "value of an enum that is used after its commit"),
    ),
    (
        "The lock is brief, but it blocks writes or changes what statements do.",
        ("trigger", "rule", "disable all triggers"),
    ),
    ("Every role but the owner sees no row any more.", ("row-level security without a policy",)),
    ("The statement would wait for its lock without end.", ("no lock timeout",)),
    ("The setting is of the whole server.", ("setting of the server",)),
)


#: The version whose findings the page shows.
VERSION = "2.70"


def squawk() -> str | None:
    """The program; None where it is not installed, or has another version."""
    beside = Path(sys.executable).parent / "squawk"
    found = str(beside) if beside.exists() else shutil.which("squawk")
    if found is None or f" {VERSION}." not in subprocess.check_output([found, "--version"], text=True):
        return None
    return found


def found_by(program: str) -> dict[str, tuple[str, ...]]:
    """The rules of squawk's findings in each case, without those on style."""
    with tempfile.TemporaryDirectory() as folder:
        return {case.name: _found(program, case, Path(folder) / "case.sql") for case in CASES}


def _found(program: str, case: Case, path: Path) -> tuple[str, ...]:
    path.write_text(case.sql + "\n", encoding="utf-8")
    options = ["--reporter", "json", "--pg-version", "18"] + (["--assume-in-transaction"] if case.transactional else [])
    done = subprocess.run([program, *options, str(path)], capture_output=True, text=True, check=False)
    return tuple(sorted({finding["rule_name"] for finding in json.loads(done.stdout)} - STYLE))


def differs(case: Case, theirs: Iterable[str]) -> bool:
    """Whether one of both has a finding that the other lacks, by the rules that find the same."""
    mine, other = set(case.rules), set(theirs)
    explained = {rule for name in other for rule in SAME.get(name, ())}
    return not mine <= explained or any(not mine & set(SAME.get(name, ())) for name in other)


def table(theirs: Mapping[str, tuple[str, ...]]) -> str:
    """The cases that differ, each with its findings here, those of squawk, and the reason."""
    lines = ["| case | here | squawk | reason |", "|---|---|---|---|"]
    for reason, names in REASONS:
        for number, name in enumerate(names):
            case = next(case for case in CASES if case.name == name)
            mine = ", ".join(dict.fromkeys(case.rules)) or "none"
            lines.append(
                f"| {name} | {mine} | {', '.join(theirs[name]) or 'none'} | {'the same' if number else reason} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    where = squawk()
    if where is None:
        sys.exit(f"squawk {VERSION} is not installed: pip install 'squawk-cli=={VERSION}.*'")
    print(table(found_by(where)))
