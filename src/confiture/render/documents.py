"""The JSON documents that the commands print, except ``status``: their keys and types. No I/O.

``docs/generate_schemas.py`` writes the JSON schemas from these types, with the descriptions of their docstrings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NotRequired, TypedDict

from confiture.copy.throttle import Limits
from confiture.incremental.standing import Standing
from confiture.journal.model import Difference, RunHistory
from confiture.migrations.outcomes import Done, Rehearsed, Severity
from confiture.schema_to_schema.outcomes import Blocker, Part, TableResult
from confiture.states import Served, State
from confiture.types import Count, ShortId

if TYPE_CHECKING:
    from confiture.lint.model import Finding, Level  # only the linter needs its values
    from confiture.plan.forecast import Forecast  # ``status`` does without the plan

#: The version of every JSON document except ``status``; raised when a field is removed or changes its meaning.
SCHEMA_VERSION: Literal[1] = 1

Seconds = Annotated[float, {"minimum": 0}]
#: The text of each column's value; None for NULL.
Row = Mapping[str, str | None]


class Document(TypedDict):
    """The first key of each document.

    :ivar schema_version: raised when a field is removed or changes its meaning; fields may be added.
    """

    schema_version: Literal[1]


class RunSummary(Document):
    """The run, as the document of each command contains it.

    :ivar run: the short name of the run.
    :ivar state: the last durable milestone.
    :ivar source: as the operator named it: an environment, or a conninfo without its secrets.
    :ivar target: as the operator named it.
    :ivar writes_served_by: the database that serves the application's writes; unknown if the journal does not show it.
    :ivar next: the next command; None when the run is over.
    :ivar alternatives: commands that are possible instead of ``next``.
    """

    run: ShortId
    state: State
    source: str
    target: str
    writes_served_by: Served
    next: str | None
    alternatives: list[str]


class RehearsalResult(TypedDict):
    """The outcome of a cutover or rollback that began now; durations in seconds.

    :ivar expected_write_pause: from the moment the lock is acquired.
    :ivar complete: whether every part was measured.
    :ivar parts: of the write pause, in their order.
    :ivar lock_timeout: that an attempt at the lock may delay writers before the pause begins.
    :ivar blockers: sessions and prepared transactions that would block the lock now.
    :ivar problem: why a switch that began now would be aborted; null when it would succeed.
    """

    expected_write_pause: Seconds
    complete: bool
    parts: list[Part]
    lock_timeout: float
    blockers: list[Blocker]
    problem: str | None


class CommandResult(TypedDict):
    """The values that a command adds to the run.

    :ivar rows_copied: ``migrate``: rows copied by this command.
    :ivar rows_applied: ``follow``: rows applied by this command.
    :ivar limits: ``throttle``: the limits that apply from now on.
    :ivar application_url: ``cutover`` and ``rollback``: the database for the application, without a password.
    :ivar rehearsal: ``--dry-run``: the outcome of a cutover or rollback that began now.
    """

    rows_copied: NotRequired[Count]
    rows_applied: NotRequired[Count]
    limits: NotRequired[Limits]
    application_url: NotRequired[str]
    rehearsal: NotRequired[RehearsalResult]


class RunDocument(RunSummary, CommandResult):
    """The output of commands that change a run, with --format json."""


class VerificationResult(TypedDict):
    """The result of a verification.

    :ivar number: counts the verifications of the run.
    :ivar equal: whether nothing differs.
    :ivar checks: ``foreign_keys``, ``constraints``, ``large_objects`` where they are copied, and ``sequences``; True
        where nothing differs. Empty in a verification for a rollback.
    """

    number: Count
    equal: bool
    tables: list[TableResult]
    checks: dict[str, bool]
    differences: list[Difference]


class VerificationDocument(RunSummary):
    """The output of verify and run with --format json."""

    verification: VerificationResult


class PlanDocument(Document):
    """The output of plan and --dry-run with --format json. The other keys are those of the plan.

    :ivar hash: identifies the plan.
    :ivar forecast: of the run; null for a run that is set up already, and with --table.
    :ivar blockers: sessions that setup would wait for now.
    :ivar next: the next command, for a shell.
    """

    hash: Annotated[str, {"pattern": "^[0-9a-f]{64}$"}]
    forecast: Forecast | None
    blockers: list[Blocker]
    next: str


class PreviewRow(TypedDict):
    """A row before and after the mapping, by column."""

    before: Row
    after: Row


class PreviewDocument(Document):
    """The output of preview with --format json."""

    table: str
    rows: Sequence[PreviewRow]


class HistoryDocument(Document):
    """The output of history with --format json.

    :ivar runs: the last run; with ``--all`` every run of the target, the oldest first.
    """

    runs: list[RunHistory]


class ListedFile(TypedDict):
    """A DDL file in the order of execution.

    :ivar path: relative to the folder of the schema.
    """

    path: str
    statements: Count


class BuildDocument(Document):
    """The output of build --apply, --output and --list with --format json.

    :ivar database: that was built.
    :ivar output: the file that was written.
    :ivar digest: SHA-256 over the relative paths and the contents of the files.
    :ivar files: the files in their order.
    """

    database: NotRequired[str]
    statements: NotRequired[Count]
    output: NotRequired[str]
    digest: NotRequired[str]
    files: NotRequired[list[ListedFile]]


class MigrationsDocument(Document):
    """The output of migrate up and migrate down with --format json.

    :ivar target: as the operator named it: an environment, or a conninfo without its secrets.
    :ivar run: the short name of the run; None when there was nothing to do.
    :ivar migrations: that this command has applied or reverted, in this order.
    """

    target: str
    run: str | None
    migrations: Sequence[Done]


class MigrationsDryRunDocument(Document):
    """The output of migrate up --dry-run and migrate down --dry-run with --format json.

    :ivar target: as the operator named it.
    :ivar migrations: in the order in which they would run.
    """

    target: str
    migrations: Sequence[Rehearsed]


class MigrationStatus(TypedDict):
    """The standing of a migration.

    :ivar has_down: whether it has a file that reverts it.
    :ivar statements_done: of an unfinished migration without a transaction; else null.
    :ivar baseline: whether it was recorded without being run.
    :ivar out_of_order: whether it was applied below a migration that was applied before.
    :ivar file_checksum: SHA-256 of the file that applies it; null without the file.
    :ivar ledger_checksum: of the file when it was applied; null when it is not.
    :ivar done_at: when it was applied; null when it is not.
    :ivar seconds: that its statements took; null for a baseline, and when it is not applied.
    :ivar role: of the session, as the server knows it; null when it is not applied.
    :ivar actor: user, host and process of the command; null when it is not applied.
    """

    version: int
    name: str
    standing: Standing
    has_down: bool
    statements_done: int | None
    baseline: bool
    out_of_order: bool
    file_checksum: str | None
    ledger_checksum: str | None
    done_at: str | None
    seconds: float | None
    role: str | None
    actor: str | None


class MigrationsStatusDocument(Document):
    """The output of migrate status with --format json.

    :ivar target: as the operator named it.
    :ivar severity: as the exit code.
    :ivar migrations: by version.
    :ivar next: the next command; null when nothing is to do.
    """

    target: str
    severity: Severity
    migrations: list[MigrationStatus]
    next: str | None


class BaselineDocument(Document):
    """The output of migrate baseline with --format json.

    :ivar recorded: the versions that are now recorded as applied, and were not before.
    :ivar discarded: the versions that the ledger no longer has, because they have no file.
    """

    recorded: list[int]
    discarded: list[int]


class GeneratedDocument(Document):
    """The output of migrate generate with --format json.

    :ivar files: that were written: the one that applies the migration, and the one that reverts it.
    """

    files: list[str]


class ScratchBuild(TypedDict):
    """The place where the DDL was built.

    :ivar database: the name of the scratch database.
    :ivar embedded: whether its server was one of this machine, and not the server of the compared database.
    :ivar version: the major version of its server.
    :ivar reason: why the server of this machine was not used; None if it was, or if the scratch database was named.
    """

    database: str
    embedded: bool
    version: int
    reason: str | None


class PropertyDocument(TypedDict):
    """A property that differs.

    :ivar ddl: the value that the DDL builds; None if the property has the usual value, which is not written.
    :ivar database: the value in the database.
    """

    name: str
    ddl: str | None
    database: str | None


class DifferenceDocument(TypedDict):
    """An object that differs.

    :ivar status: whether the object is missing in the database, exists there only, or has other properties.
    :ivar kind: the kind of the object, such as ``table`` or ``column``.
    :ivar name: the qualified name of the object.
    :ivar part_of: kind and name of the object that it belongs to, such as the table of a column.
    :ivar properties: those that differ; of a missing or an extra object, all of its own.
    """

    status: Literal["missing", "extra", "different"]
    kind: str
    name: str
    part_of: str | None
    properties: list[PropertyDocument]


class CheckDocument(Document):
    """The output of build --check with --format json.

    :ivar database: as it was named.
    :ivar version: the major version of its server.
    :ivar equal: whether the database has every object of the DDL, and no other object.
    :ivar digest: SHA-256 over the relative paths and the contents of the DDL files.
    :ivar objects: the number of objects that the DDL builds.
    """

    database: str
    version: int
    equal: bool
    scratch: ScratchBuild
    digest: str
    objects: Count
    differences: list[DifferenceDocument]


class LintRule(TypedDict):
    """A rule of the linter.

    :ivar level: of its findings, where nothing is known of the size of the table.
    :ivar page: of PostgreSQL's documentation.
    """

    name: str
    level: Level
    summary: str
    page: str


class LintDocument(Document):
    """The output of migrate lint with --format json.

    :ivar database: whose tables have weighed the findings; null where none was named.
    :ivar errors: the number of findings of this level.
    :ivar rules: only with ``--rules``.
    """

    database: str | None
    files: list[str]
    errors: Count
    warnings: Count
    notes: Count
    findings: list[Finding]
    rules: NotRequired[list[LintRule]]


class SyncDocument(Document):
    """The output of sync with --format json. The other keys are those of the report."""


class SyncPlanDocument(Document):
    """The output of sync --dry-run with --format json. The other keys are those of the plan."""
