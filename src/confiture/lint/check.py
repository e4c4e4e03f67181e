"""Judges files of migrations in their order. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from confiture.errors import FaultyInput
from confiture.incremental import files as migration_files
from confiture.incremental.model import Script as MigrationFile
from confiture.lint import noting, taken
from confiture.lint.facts import Facts
from confiture.lint.locks import BLOCKS_WRITES, Work
from confiture.lint.model import Draft, Finding, Level, Rule, script
from confiture.lint.nodes import ALTER, commands
from confiture.lint.rules import FAMILIES, RULES, files, transactions
from confiture.lint.rules.constraints import VALIDATE
from confiture.lint.script import NO_TRANSACTION, Script, Statement
from confiture.lint.seen import Seen
from confiture.lint.weights import LARGE_TABLE_BYTES, weighed
from confiture.types import did_you_mean

_DIRECTIVE = re.compile(r"^\s*--\s*confiture:\s*(\S+).*$")


def findings(scripts: Sequence[Script], facts: Facts | None = None, large: int = LARGE_TABLE_BYTES) -> list[Finding]:
    """The findings of files, in the order of the files and of their lines.

    :param scripts: in the order in which they run; what an earlier one establishes holds for a later one.
    :param facts: of the database; None where none is named.
    :param large: bytes of a table from which a rewrite refers to schema-to-schema.
    """
    seen = Seen(facts)
    found: list[Finding] = []
    for each in scripts:
        of_file = [*_of_text(each), *_of_statements(each, seen, large)]
        of_file += _refused(each, {finding.line for finding in of_file})
        found += sorted(of_file, key=lambda finding: (finding.line, finding.column))
    return found


def _of_text(each: Script) -> Iterator[Finding]:
    for fault in each.faults:
        reason = f"{fault.message}: {fault.hint}" if fault.hint else fault.message
        yield _plain(files.SYNTAX, each.file, fault.line, fault.column, reason)
    for number, line in enumerate(each.text.removeprefix("\ufeff").split("\n"), 1):
        directive = _DIRECTIVE.match(line)
        if directive is not None and directive[1] != "allow":
            if not NO_TRANSACTION.match(line.strip()):
                reason = f"there is no directive {directive[1]!r}: the directives are allow RULE and no-transaction"
                yield _plain(files.DIRECTIVE, each.file, number, 1, reason)
            elif number > 1:
                reason = "no-transaction has an effect in the first line only"
                yield _plain(files.DIRECTIVE, each.file, number, 1, reason)


def _refused(each: Script, judged_lines: set[int]) -> Iterator[Finding]:
    """The other faults for which ``migrate up`` runs no statement of the file."""
    if not each.by_confiture:
        return
    try:
        migration_files.statements([MigrationFile(Path(each.file), each.text, each.transactional)])
    except FaultyInput as error:
        for fault in error.faults:
            if fault.line not in judged_lines:
                reason = f"{fault.message}: {fault.hint}" if fault.hint else fault.message
                yield _plain(files.REFUSED, each.file, fault.line, fault.column, reason)


def _plain(rule: Rule, file: str, line: int, column: int, reason: str) -> Finding:
    return Finding(
        rule.name, rule.level, file, line, column, "", None, None, None, Work.none, reason, None, None, None, rule.url
    )


def _of_statements(each: Script, seen: Seen, large: int) -> Iterator[Finding]:
    for statement, drafts in judged(each, seen):
        for draft in drafts:
            if draft.rule.name not in statement.allowed:
                yield _finding(draft, each.file, statement, seen, large)
        yield from _comments(each.file, statement.allowed, {draft.rule.name for draft in drafts})


def judged(each: Script, seen: Seen) -> Iterator[tuple[Statement, list[Draft]]]:
    """The statements of a file in their order, each with the judgements of every rule.

    :param seen: as the files before have left it; it is updated when the next statement is asked for.
    """
    noting.begin(seen, each)
    for statement in each.statements:
        drafts = [draft for family in FAMILIES for draft in family.check(statement, seen)]
        drafts = [draft for draft in (*drafts, *_together(statement, drafts, seen)) if not _harmless(draft, seen)]
        yield statement, drafts
        _hold(statement, drafts, seen)
        noting.note(seen, statement)


def _harmless(draft: Draft, seen: Seen) -> bool:
    """Whether no other session uses the table of the judgement."""
    return draft.table is not None and seen.is_new(draft.table)


def _together(statement: Statement, drafts: Sequence[Draft], seen: Seen) -> Iterator[Draft]:
    """Judgements that follow from others: a second pass over a table, and slow work under a lock."""
    costly = [d for d in drafts if d.work not in (Work.none, Work.rows) and not _harmless(d, seen)]
    again = next((d for d in costly if d.table in seen.costly and statement.kind == "alter_table_stmt"), None)
    if again is not None and again.table is not None:
        line = seen.costly[again.table]
        reason = f"line {line} reads or rewrites the whole table too; one ALTER TABLE with both parts does it once"
        yield Draft(transactions.COSTLY, reason, (), again.table, again.lock, again.work)
    if any(draft.rule is VALIDATE for draft in drafts):
        return
    described = _slow(statement, drafts, seen)
    if described is not None and seen.in_transaction:
        own = frozenset(table for table, lock in taken.locks(statement, seen).items() if lock >= BLOCKS_WRITES)
        yield from transactions.under_locks(seen, own, described)


def _slow(statement: Statement, drafts: Sequence[Draft], seen: Seen) -> str | None:
    """The work of a statement whose time depends on the size of a table, as a clause; None for a quick one."""
    kind, node = statement.kind, statement.node
    for draft in drafts:
        if draft.work is not Work.none and not _harmless(draft, seen):
            table = draft.table.name if draft.table is not None else "a table"
            return f"this statement {draft.work.sentence.replace('the table', table)}"
    if kind == "insert_stmt" and node.select_stmt.select_stmt.from_clause:
        return "this statement copies rows"
    if kind == "create_table_as_stmt" and not node.into.skip_data:
        return "this statement runs a query"
    if kind == "refresh_mat_view_stmt":
        return "this statement runs the query of the view"
    if kind == "alter_table_stmt" and any(part == ALTER.AT_ValidateConstraint for part, _, _ in commands(node)):
        return None if seen.is_new(seen.ref(node.relation)) else "this statement reads every row"
    return None


def _hold(statement: Statement, drafts: Sequence[Draft], seen: Seen) -> None:
    """Record the locks of a statement until the end of its transaction, and the passes of ALTER TABLE over tables."""
    for table, lock in taken.locks(statement, seen).items():
        if not seen.is_new(table):
            held, line = seen.held.get(table, (lock, statement.source.line))
            seen.held[table] = (lock, statement.source.line) if lock > held else (held, line)
    for draft in drafts:
        costly = draft.work not in (Work.none, Work.rows) and statement.kind == "alter_table_stmt"
        if draft.table is not None and costly:
            seen.costly.setdefault(draft.table, statement.source.line)


def _finding(draft: Draft, file: str, statement: Statement, seen: Seen, large: int) -> Finding:
    level, size, reason = weighed(draft, seen, large)
    line, column = statement.place(draft.offset)
    return Finding(
        rule=draft.rule.name,
        level=level,
        file=file,
        line=line,
        column=column,
        statement=statement.source.shown,
        table=str(draft.table) if draft.table is not None else None,
        lock=str(draft.lock) if draft.lock is not None else None,
        blocks=draft.lock.blocks if draft.lock is not None else None,
        work=draft.work,
        reason=draft.reason,
        size=size,
        weighed=reason,
        instead=script(draft.steps),
        page=draft.rule.url,
    )


def _comments(file: str, allowed: dict[str, int], found: set[str]) -> Iterator[Finding]:
    """Comments that allow a rule of an unknown name, or one without a finding."""
    for name, line in allowed.items():
        if name not in RULES:
            reason = f"there is no rule {name!r}"
            hint = did_you_mean(name, RULES)
            yield _plain(files.UNKNOWN, file, line, 1, f"{reason}: {hint}" if hint else reason)
        elif name not in found:
            yield _plain(files.UNUSED, file, line, 1, f"the statement has no finding of the rule {name}")


def failing(found: Sequence[Finding]) -> bool:
    """Whether a finding is an error."""
    return any(finding.level is Level.error for finding in found)
