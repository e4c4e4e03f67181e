"""Every error states what happened, why, and what to do, and has its exit code."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import psycopg
import pytest

import confiture
from confiture import errors
from confiture.config import Database
from confiture.errors import ConfitureError, Fault, FaultyInput
from confiture.postgres.connection import _cannot_connect
from confiture.postgres.failure import failure, name_role

SOURCES = sorted(Path(confiture.__file__).parent.rglob("*.py"))
CLASSES = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ConfitureError)}
#: Classes whose reason is in their faults, or that need no reason.
WITHOUT_WHY = {"FaultyInput", "Drained"}


def raised() -> list[tuple[str, str, set[str]]]:
    """Place, class and keywords of every error that the source code raises."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                keywords = {keyword.arg or "" for keyword in node.keywords}
                found.append((f"{path.name}:{node.lineno}", node.func.id, keywords))
    return found


def test_every_error_states_a_fix() -> None:
    assert [place for place, kind, keywords in raised() if kind != "ConfitureError" and "fix" not in keywords] == []


def test_every_error_states_a_reason() -> None:
    exempt = WITHOUT_WHY | {"ConfitureError"}
    lacking = [place for place, kind, keywords in raised() if kind not in exempt and "why" not in keywords]
    assert lacking == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfitureError", 1),
        ("UsageError", 2),
        ("FaultyInput", 2),
        ("CannotConnect", 3),
        ("Refused", 4),
        ("DataFailure", 5),
        ("Held", 6),
        ("DifferencesFound", 7),
        ("CutoverAborted", 8),
        ("CutoverUnfinished", 9),
        ("WaitedOut", 124),
    ],
)
def test_each_class_has_its_exit_code(name: str, code: int) -> None:
    assert CLASSES[name].exit_code == code


def test_lines_of_an_error_omit_empty_parts_and_keep_every_fault() -> None:
    assert ConfitureError("what").lines() == ["what"]
    faults = [Fault("m.yaml", 1, 2, "first"), Fault("m.yaml", 3, 4, "second", "hint")]
    reported = FaultyInput("two faults", faults, fix="fix them").lines()
    assert reported == ["two faults", "m.yaml:1:2: first\nm.yaml:3:4: second (hint)", "fix them"]


@pytest.mark.parametrize(
    ("message", "grant"),
    [
        ("permission denied for table tb_user", "GRANT SELECT ON TABLE tb_user TO"),
        ("permission denied for schema app", "GRANT USAGE ON SCHEMA app TO"),
        ("permission denied for foreign-data wrapper postgres_fdw", "GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw"),
        ("must be owner of table tb_user", "GRANT the role that owns tb_user TO"),
        ("verweigert", "docs/privileges.md"),
    ],
)
def test_a_missing_privilege_is_reported_with_its_grant(message: str, grant: str) -> None:
    reported = failure(psycopg.errors.InsufficientPrivilege(message), "copying")
    assert (reported.exit_code, reported.why) == (4, message)
    assert grant in reported.fix


def test_a_grant_names_the_role_of_the_session() -> None:
    error = psycopg.errors.InsufficientPrivilege("permission denied for table tb_user")
    name_role(error, "Migrator")
    assert failure(error, "copying").fix == 'GRANT SELECT ON TABLE tb_user TO "Migrator"'


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ('FATAL:  password authentication failed for user "u"', "~/.pgpass"),
        ("fe_sendauth: no password supplied", "PGPASSWORD"),
        ('FATAL:  database "appp" does not exist', "correct the name of the database"),
        ('FATAL:  role "u" does not exist', "correct the name of the user"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u"', "pg_hba.conf"),
        ("failed to resolve host 'dbb': [Errno -2] Name or service not known", "name of the host"),
        ('FATAL:  database "app" is not currently accepting connections', "ALLOW_CONNECTIONS true"),
        ("FATAL:  sorry, too many clients already", "wait until other sessions have ended"),
        ("FATAL:  the database system is starting up", "wait until the server accepts connections"),
        ("Connection refused", "that the server is running"),
    ],
)
def test_a_failed_connection_names_the_way_out(reason: str, fix: str) -> None:
    error = _cannot_connect(Database("prod", "host=db user=u dbname=app"), psycopg.OperationalError(reason))
    assert (error.exit_code, fix in error.fix) == (3, True)
    assert reason in error.why
