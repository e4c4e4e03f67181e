"""Chinook is synced with chosen and masked rows, killed several times, and compared with independent SQL.

The test needs the sample database ``chinook.sql`` (see the fixture ``samples``) and is skipped without it.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from confiture.status.facts import Report, Severity
from confiture.status.report import report
from conftest import ROOT
from forked import Forks
from projects import Done, call_confiture
from servers import Databases, TestDatabase, load_dump

KEY = "the key of this test, of 32 bytes"
MASK = """
'"Customer"':
  '"FirstName"': {rule: name, part: first}
  '"LastName"': {rule: name, part: last}
  '"Company"': text
  '"Address"': address
  '"City"': keep
  '"State"': keep
  '"Country"': keep
  '"PostalCode"': {rule: constant, value: '0000'}
  '"Phone"': phone
  '"Fax"': phone
  '"Email"': email
'"Employee"':
  '"FirstName"': {rule: name, part: first}
  '"LastName"': {rule: name, part: last}
  '"BirthDate"': {rule: date shift, days: 90}
  '"Address"': address
  '"City"': keep
  '"State"': keep
  '"Country"': keep
  '"PostalCode"': 'null'
  '"Phone"': phone
  '"Fax"': phone
  '"Email"': email
'"Invoice"':
  '"BillingAddress"': address
  '"BillingCity"': keep
  '"BillingState"': keep
  '"BillingCountry"': keep
  '"BillingPostalCode"': 'null'
"""
#: Columns whose masked values never are values of the source.
SECRET = (("Customer", "Email"), ("Customer", "Address"), ("Employee", "Email"), ("Invoice", "BillingAddress"))
TABLES = (
    *("Album", "Artist", "Customer", "Employee", "Genre", "Invoice", "InvoiceLine", "MediaType", "Playlist"),
    *("PlaylistTrack", "Track"),
)
BRAZIL = '"Customer"="Country" = \'Brazil\''
CUSTOMERS = 'SELECT "CustomerId" FROM "Customer" WHERE "Country" = \'Brazil\''
INVOICES = f'SELECT "InvoiceId" FROM "Invoice" WHERE "CustomerId" IN ({CUSTOMERS})'
LINES = f'SELECT * FROM "InvoiceLine" WHERE "InvoiceId" IN ({INVOICES})'
#: Each kill is at a commit of the command that continues the one before.
KILLS = (
    *("sync.begun.before_commit", "copy.before_commit:2", "copy.after_commit:5", "copy.before_commit:4"),
    *("references.before_commit", "references.after_commit:2", "references.before_commit:3"),
    *("proof.done.before_commit", "finish.before_commit:2"),
)


@dataclass(frozen=True)
class Shop:
    """A project with Chinook as production, and an empty target."""

    folder: Path
    source: TestDatabase
    target: TestDatabase

    @property
    def environment(self) -> dict[str, str]:
        return {"CONFITURE_MASK_KEY": KEY}

    def sync(self, *options: str, check: int = 0) -> Done:
        command = ["sync", "--from", "production", "--to", "local", *options]
        return call_confiture(*command, cwd=self.folder, env=self.environment, check=check)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        return {name: self.target.rows(f'SELECT * FROM "{name}" t ORDER BY t::text') for name in TABLES}


def ddl(dump: Path) -> str:
    """The statements of a dump without its rows and settings."""
    text = re.sub(r"^COPY .*?^\\\.$", "", dump.read_text(encoding="utf-8", errors="replace"), flags=re.M | re.S)
    return re.sub(r"^(SET .*|SELECT pg_catalog.*|\\.*|CREATE SCHEMA public;)$", "", text, flags=re.M)


def shop(databases: Databases, samples: Path, folder: Path) -> Shop:
    made = Shop(folder, databases.make(), databases.make())
    load_dump(made.source, samples / "chinook.sql")
    made.source.sql("ANALYZE")
    files = {
        "db/environments/production.yaml": f"database_url: {made.source.conninfo}\nprotected: true\n",
        "db/environments/local.yaml": f"database_url: {made.target.conninfo}\n",
        "db/schema/10_chinook.sql": ddl(samples / "chinook.sql"),
        "db/sync/mask.yaml": MASK,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return made


def assert_valid_and_masked(made: Shop) -> None:
    """Every foreign key holds by the server's own account, and no secret value of the source is in the target."""
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace"
    assert made.target.value(f"{keys} AND convalidated") == made.source.value(keys) == 11
    for table, column in SECRET:
        clear = made.source.rows(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
        found = made.target.rows(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
        assert found
        assert not {*clear} & {*found}
    # One customer has the same address in each of their invoices, as in the source.
    joined = (
        'SELECT count(*) FROM "Invoice" i JOIN "Customer" c USING ("CustomerId") WHERE "BillingAddress" = "Address"'
    )
    assert made.target.value(joined) == made.target.value('SELECT count(*) FROM "Invoice"')


@pytest.fixture
def chinook(databases: Databases, samples: Path, tmp_path: Path) -> Shop:
    return shop(databases, samples, tmp_path / "project")


def test_the_customers_of_a_country_bring_all_that_is_theirs(chinook: Shop) -> None:
    report = json.loads(chinook.sync("--where", BRAZIL, "--format", "json").stdout)
    assert_valid_and_masked(chinook)
    source, target = chinook.source, chinook.target
    assert target.rows('SELECT "CustomerId" FROM "Customer" ORDER BY 1') == source.rows(f"{CUSTOMERS} ORDER BY 1")
    assert target.rows('SELECT "InvoiceId" FROM "Invoice" ORDER BY 1') == source.rows(f"{INVOICES} ORDER BY 1")
    lines = 'SELECT * FROM "InvoiceLine" ORDER BY 1'
    assert target.rows(lines) == source.rows(f"{LINES} ORDER BY 1")
    assert target.rows('SELECT * FROM "Track" ORDER BY 1') == source.rows('SELECT * FROM "Track" ORDER BY 1')
    numbers = {t["table"]: (t["chosen"], t["rows"]) for t in report["tables"]}
    assert numbers['public."Customer"'] == ("by its condition", 5)
    assert numbers['public."Invoice"'] == ("rows whose parents are chosen", 35)


def test_only_the_rows_that_others_refer_to_come_of_other_tables(chinook: Shop) -> None:
    chinook.sync("--tables", '"Customer"', "--tables", '"Invoice"', "--tables", '"InvoiceLine"', "--where", BRAZIL)
    assert_valid_and_masked(chinook)
    source, target = chinook.source, chinook.target
    tracks = f'SELECT "TrackId" FROM ({LINES}) l'
    for table, key, referred in (
        ("Track", "TrackId", tracks),
        ("Album", "AlbumId", f'SELECT "AlbumId" FROM "Track" WHERE "TrackId" IN ({tracks})'),
        ("Genre", "GenreId", f'SELECT "GenreId" FROM "Track" WHERE "TrackId" IN ({tracks})'),
    ):
        found = target.rows(f'SELECT "{key}" FROM "{table}" ORDER BY 1')
        assert found == source.rows(f'SELECT DISTINCT "{key}" FROM ({referred}) r ORDER BY 1')
    # The employee who supports them, their boss, and the boss of both.
    assert target.rows('SELECT "ReportsTo" FROM "Employee" ORDER BY 1') == [(1,), (2,), (2,), (2,), (None,)]
    assert target.value('SELECT count(*) FROM "PlaylistTrack"') == 0


def test_a_killed_sync_of_a_sample_has_the_rows_of_an_undisturbed_one(
    chinook: Shop, databases: Databases, samples: Path, forks: Forks, tmp_path: Path
) -> None:
    options = ("--sample", "20", "--where", BRAZIL)
    for point in KILLS:
        command = ["sync", "--from", "production", "--to", "local", *options]
        died = forks.run(command, chinook.folder, **chinook.environment, CONFITURE_FAILPOINT=point)
        assert died.code == -signal.SIGKILL, f"{point}: exit {died.code}\n{died.err}"
    chinook.sync(*options)
    assert_valid_and_masked(chinook)
    other = shop(databases, samples, tmp_path / "other")
    other.sync(*options)
    assert chinook.rows() == other.rows()
    share = chinook.target.value('SELECT count(*) FROM "PlaylistTrack"')
    assert 0.15 < share / chinook.source.value('SELECT count(*) FROM "PlaylistTrack"') < 0.25


def test_a_personal_column_without_a_rule_stops_before_a_row_is_read(chinook: Shop) -> None:
    mask = chinook.folder / "db/sync/mask.yaml"
    mask.write_text(MASK.replace("""  '"Email"': email\n""", ""))
    refused = chinook.sync(check=4)
    assert '"Customer"."Email"' in refused.stderr or "Email" in refused.stderr
    assert chinook.target.value("SELECT count(*) FROM pg_class WHERE relname = 'Customer'") == 0


def test_status_reports_a_masked_sync_and_then_migrations_of_its_target(
    databases: Databases, samples: Path, tmp_path: Path, forks: Forks
) -> None:
    made = shop(databases, samples, tmp_path)

    def status() -> Report:
        return report("local", tmp_path)

    killed = forks.run(
        ["sync", "--from", "production", "--to", "local"], tmp_path,
        **made.environment, CONFITURE_FAILPOINT="copy.before_commit:4",
    )  # fmt: skip
    assert killed.code == -signal.SIGKILL
    assert (status().severity, status().syncs[0].next["command"]) == (
        Severity.CRITICAL,
        "confiture sync --to local --from production",
    )
    made.sync()
    (synced,) = status().syncs
    assert (status().severity, synced.state, synced.restarts) == (Severity.OK, "cleaned", 1)
    assert synced.proof is not None
    assert synced.proof["passed"]
    assert {column["column"] for column in synced.masked or ()} >= {"Email", "Phone", "Address"}
    masked = made.rows()
    shutil.copytree(ROOT / "examples/chinook/db/migrations", tmp_path / "db/migrations")
    migrate = partial(call_confiture, cwd=tmp_path, env={}, check=0)
    migrate("migrate", "up", "--target", "local")
    (migrations,) = status().migrations
    assert (migrations.applied, migrations.pending, len(status().syncs)) == (6, (), 1)
    migrate("migrate", "down", "--target", "local", "--to", "0")
    (migrations,) = status().migrations
    assert (status().severity, migrations.applied, len(migrations.pending or ())) == (Severity.OK, 0, 6)
    assert made.rows() == masked
