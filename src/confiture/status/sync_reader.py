"""Read the syncs of one database for a status report from the journal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

from psycopg.rows import dict_row

from confiture.journal import viewed
from confiture.naming import Naming
from confiture.postgres.session import Transaction
from confiture.status import run_reader
from confiture.status.facts import ServerReport
from confiture.status.media import ColumnRule, KeysReport, LeakReport, ProofReport, SyncRunReport
from confiture.status.media_severity import SyncFacts, judge_sync, leave_sync, next_of_sync, undo_sync
from confiture.sync.request import MASK_FILE
from confiture.types import Json, shell_word

#: Syncs that a report has without ``--all``.
RECENT = 3
#: The rule of a column that is copied as it is.
KEEP = "keep"


def read(
    tx: Transaction, now: datetime, server: ServerReport, named: Naming, project: Path, *, every: bool
) -> tuple[tuple[UUID, SyncRunReport], ...]:
    """The live sync and the last ones, the newest first, each with its run.

    :param every: all of them.
    """
    most = None if every else RECENT
    with tx.pg.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(viewed.statements(tx, "media.sql")["syncs"], {"most": most}).fetchall()
    return tuple((row["id"], _sync(tx, row, now, server, named, project)) for row in found)


def _sync(
    tx: Transaction, row: Json, now: datetime, server: ServerReport, named: Naming, project: Path
) -> SyncRunReport:
    run = row["id"]
    read = run_reader.read(tx, run, row["age"], now)
    chosen = tuple(_options(row["options"], project))
    words = ["sync --from", shell_word(row["source_name"]), *chosen]
    facts = SyncFacts(
        state=row["state"],
        blocked=row["blocked_reason"],
        runner=read.runner,
        tables=read.tables,
        paused_seconds=read.paused and read.paused[0],
        throttled=read.waited,
        blocking=run_reader.blocking(tx, run) if read.runner.alive else (),
        proof=_proof(row),
        command=named.command(" ".join(words)),
        again=named.command(" ".join([*words, "--replace"])),
        abort=named.command("sync --abort"),
    )
    severity, reasons = judge_sync(facts)
    columns, ended = _columns(row["options"]), row["report"]
    return SyncRunReport(
        **run_reader.fields(row, read, project),
        actor=row["actor"] or "unknown",
        severity=severity,
        reasons=reasons,
        tables=read.tables,
        blocking=facts.blocking,
        consistent=bool(row["options"].get("consistent")),
        options=chosen,
        masked=None if columns is None else tuple(c for c in columns if c["rule"] != KEEP),
        kept=None if columns is None else sum(c["rule"] == KEEP for c in columns),
        rows=None if ended is None else sum(table["rows"] for table in ended["tables"]),
        proof=facts.proof,
        foreign_keys=None if ended is None else _keys(ended),
        leave_alone=leave_sync(facts),
        undo=undo_sync(facts),
        next=next_of_sync(facts, named),
        server=server,
    )


def _options(stored: Json, project: Path) -> Iterator[str]:
    """The options of the command line that choose and mask the rows, quoted for a shell.

    The mask file of the project is used if no other one is named.
    """
    for name, option in (("tables", "--tables"), ("where", "--where")):
        for value in stored.get(name) or ():
            yield f"{option} {shell_word(str(value))}"
    if stored.get("sample") is not None:
        yield f"--sample {stored['sample']:g}"
    if stored.get("mask_file") and Path(stored["mask_file"]) not in (project / MASK_FILE, Path(MASK_FILE)):
        yield f"--mask {shell_word(stored['mask_file'])}"
    for value in stored.get("allowed") or ():
        yield f"--allow-unmasked {shell_word(str(value))}"
    if stored.get("consistent"):
        yield "--consistent"


def _columns(stored: Json) -> tuple[ColumnRule, ...] | None:
    """The columns with their rules; None before the sync has a plan."""
    if "columns" not in stored:
        return None
    return tuple(
        {"table": c["table"], "column": c["column"], "rule": c["rule"], "why": c["why"]} for c in stored["columns"]
    )


def _proof(row: Json) -> ProofReport | None:
    if row["proved"] is None:
        return None
    columns: list[LeakReport] = [
        {
            "table": c["table"],
            "column": c["column"],
            "rule": c["rule"],
            "values": c["values"],
            "found": c["found"],
            "limit": c["limit"],
            "leaks": c["leaks"],
        }
        for c in row["proved"]
    ]
    return {"at": row["proved_at"], "passed": not any(c["leaks"] for c in columns), "columns": columns}


def _keys(ended: Json) -> KeysReport:
    """The foreign keys that were checked at the end."""
    keys = ended["foreign_keys"]
    return {"checked": len(keys), "violations": sum(key["violations"] for key in keys)}
