"""The output of the commands of incremental migrations, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from confiture.incremental.standing import Judged, Standing
from confiture.migrations.outcomes import Done, Lock, Rehearsed, Report, Tried
from confiture.naming import Naming
from confiture.render.documents import (
    SCHEMA_VERSION,
    MigrationsDocument,
    MigrationsDryRunDocument,
    MigrationsStatusDocument,
    MigrationStatus,
)
from confiture.types import abbreviated, byte_size, counted

_ROLLED_BACK = "Everything was rolled back. Only sequences keep the values that the statements have taken."


def done_text(done: Sequence[Done], direction: str, target: str) -> str:
    """The migrations that a command has run."""
    if not done:
        return f"{target}: {'no migration is pending' if direction == 'up' else 'no migration is applied'}"
    verb = "applied" if direction == "up" else "reverted"
    return f"{target}: {counted(len(done), 'migration')} {verb}"


def done_json(done: Sequence[Done], run: str | None, target: str) -> MigrationsDocument:
    """The migrations that a command has run."""
    return {"schema_version": SCHEMA_VERSION, "target": target, "run": run, "migrations": done}


def dry_run_text(rehearsed: Sequence[Rehearsed]) -> str:
    """Each statement with its locks and durations."""
    if not rehearsed:
        return "nothing would run"
    return "\n".join([*(line for each in rehearsed for line in _migration(each)), "", _ROLLED_BACK])


def _migration(each: Rehearsed) -> Iterator[str]:
    kind = "one transaction" if each.transactional else "no transaction"
    yield f"{each.version}_{each.name}.{each.direction}.sql ({kind})"
    for tried in each.statements:
        yield from _statement(tried)


def _statement(tried: Tried) -> Iterator[str]:
    text = tried.text if len(tried.text) <= 66 else f"{tried.text[:65]}…"
    yield f"  {tried.line}:{tried.column} {text}"
    if not tried.ran:
        yield f"    not run: {tried.reason}"
        return
    yield f"    {tried.seconds:.3f} s{', no lock on an existing table' if not tried.locks else ''}"
    yield from (f"    {_lock(lock)}" for lock in tried.locks)


def _lock(lock: Lock) -> str:
    rows = f", about {abbreviated(lock.rows)} rows" if lock.rows is not None and lock.kind == "table" else ""
    return f"{lock.mode} on {lock.kind} {lock.relation} ({byte_size(lock.bytes)}{rows})"


def dry_run_json(rehearsed: Sequence[Rehearsed], target: str) -> MigrationsDryRunDocument:
    """Each statement with its locks and durations."""
    return {"schema_version": SCHEMA_VERSION, "target": target, "migrations": rehearsed}


def status_text(report: Report, naming: Naming) -> str:
    """Where each migration stands, and the next command."""
    counts = Counter(each.standing for each in report.migrations)
    summary = ", ".join(f"{counts[standing]} {standing}" for standing in Standing if counts[standing])
    lines = [f"{report.severity} - {report.target}: {summary or 'no migrations'}"]
    width = max((len(each.label) for each in report.migrations), default=0)
    lines += [f"  {each.label:<{width}}  {_standing(each, report)}".rstrip() for each in report.migrations]
    if report.at_work is not None:
        lines.append(f"at work: {report.at_work}")
    following = _advice(report, naming)
    return "\n".join([*lines, *([f"Next: {following}"] if following else [])])


def _advice(report: Report, naming: Naming) -> str | None:
    """The next step of the operator; None when nothing is to be done."""
    found = {each.standing for each in report.migrations}
    if report.at_work is None and found & _OTHER_FILES:
        return f"restore the files; or accept them as they are: {naming.command('migrate baseline')} VERSION"
    following = _next(report, naming)
    if following is not None and Standing.OUT_OF_ORDER in found:
        return f"give the file a later version; or apply it out of order: {following}"
    return following


#: The standings of which no command is the next one: only the operator knows which files are right.
_OTHER_FILES = {Standing.EDITED, Standing.MISSING}


def _standing(each: Judged, report: Report) -> str:
    entry = each.entry
    if each.standing is Standing.UNFINISHED and entry is not None:
        count = counted(report.statements_done.get(each.version, 0), "statement")
        return f"unfinished ({entry.direction}): {count} done"
    if entry is None or not entry.applied:
        return each.standing
    at = f"{entry.done_at:%Y-%m-%d %H:%M}Z" if entry.done_at is not None else ""
    more = [*(["baseline"] if entry.baseline else []), *(["out of order"] if entry.out_of_order else [])]
    if each.migration is not None and each.migration.down is None:
        more.append("no down file")
    return f"{each.standing} {at} by {entry.role}" + (f" ({', '.join(more)})" if more else "")


def _next(report: Report, naming: Naming) -> str | None:
    found = {each.standing for each in report.migrations}
    if report.at_work is not None:
        return None
    reverting = any(
        each.entry is not None and each.entry.direction == "down"
        for each in report.migrations
        if each.standing is Standing.UNFINISHED
    )
    if reverting:
        return naming.command("migrate down")
    if found & _OTHER_FILES:
        return None
    if Standing.OUT_OF_ORDER in found:
        return naming.command("migrate up --out-of-order")
    return naming.command("migrate up") if found - {Standing.APPLIED} else None


def status_json(report: Report, naming: Naming) -> MigrationsStatusDocument:
    """Where each migration stands, and the next command."""
    return {
        "schema_version": SCHEMA_VERSION,
        "target": report.target,
        "severity": report.severity,
        "migrations": [_status(each, report) for each in report.migrations],
        "next": _next(report, naming),
    }


def _status(each: Judged, report: Report) -> MigrationStatus:
    entry, file = each.entry, each.migration
    applied = entry if entry is not None and not entry.reverted else None
    return {
        "version": each.version,
        "name": each.label.partition("_")[2],
        "standing": each.standing,
        "has_down": file is not None and file.down is not None,
        "statements_done": report.statements_done.get(each.version),
        "baseline": applied is not None and applied.baseline,
        "out_of_order": applied is not None and applied.out_of_order,
        "file_checksum": file.up.checksum if file is not None else None,
        "ledger_checksum": applied.up_checksum if applied is not None else None,
        "done_at": applied.done_at.isoformat() if applied is not None and applied.done_at is not None else None,
        "seconds": applied.seconds if applied is not None else None,
        "role": applied.role if applied is not None else None,
        "actor": applied.actor if applied is not None else None,
    }
