"""verify: every row by checksum, then foreign keys, constraints, indexes and sequences.

Each part is recorded with its differences in one commit, so that a verification continues after a crash. After a
restart of either server, or with a new plan, it starts again.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from psycopg import sql

from confiture import fingerprint
from confiture.capture import write_block
from confiture.capture.apply import Followed
from confiture.compare import changed_keys, checksum, compared_parts, constraints
from confiture.compare.checksum import Hashing
from confiture.copy.run_table import RunTable
from confiture.errors import Refused, UsageError
from confiture.failpoints import failpoint
from confiture.journal import catch_up, deferred_objects, rounds, runs, table_plans, verifications
from confiture.journal.model import DeferredForeignKey, Difference, TablePhase, Unit, Verification
from confiture.naming import Naming
from confiture.plan.model import Plan
from confiture.postgres.connection import only_row
from confiture.postgres.retry import repeated
from confiture.postgres.session import Session, Transaction
from confiture.postgres.yielding import yielding
from confiture.runner.context import Context
from confiture.runner.progress import Progress
from confiture.runner.threads import Task, Threads
from confiture.schema_to_schema import follow, large_objects, sequences
from confiture.schema_to_schema.keyless import off_until_cutover
from confiture.schema_to_schema.outcomes import Result, TableResult
from confiture.types import Activity, counted, duration, short_names

#: The checks after the rows, in the order in which they run and are reported.
CHECKS = ("foreign_keys", "constraints", large_objects.CHECK, "sequences")


_NUMBER = re.compile(r"-?\d+")


def verify(
    context: Context, plan: Plan, purpose: str = "verify", *, capture: bool = False, jobs: int | None = None
) -> Result:
    """Compare everything; resumes an unfinished attempt of the same plan and servers.

    :param purpose: ``verify``, or ``cutover`` for the repetition under its lock.
    :param capture: the application writes during the verification, so that a row that differs is a suspect first.
    :param jobs: parts that are compared at the same time, each in sessions of its own; None to compare one after
        another in the sessions of the context, without pauses.
    :raises Refused: when not every table is copied and rebuilt.
    :raises Drained: after a signal, when the parts that are being compared are recorded.
    """
    refuse_unfinished(context)
    refuse_changed(context)
    number = _attempt(context, plan, purpose, servers(context))
    hashing = changed_keys.hashing_of(context, plan)
    if capture:
        follow.drain(context, plan, record_changed=True, jobs=jobs)
        large_objects.synchronise(context, plan)
    with context.target.transaction(read_only=True) as tx:
        known = {(u.check_name, u.subject, u.unit): u for u in verifications.units(tx, context.run_id, number)}
    with follow.with_helpers(context, plan, jobs) as follower:
        live = {j.table.number: f for f in follower.followed for j in f.jobs} if capture else {}
        catch_up_pass = partial(follow.one_pass, follower, record_changed=True)
        backlog = follow.BacklogWatch(context, plan) if capture else None
        _Rows(context, plan, number, hashing, live, known, catch_up_pass, backlog).compare(jobs)
    for name in _checks_of(plan):
        if name == "sequences" and capture:
            # They advance while the application writes, and the cutover sets them under its lock: no difference.
            _report_sequences(context, context.source, plan)
            continue
        if (name, "", 0) not in known:
            context.checkpoint(pausable=jobs is not None)
            found = _checked(context, context.source, plan, name, live=capture)
            _record(context, number, Unit(name, "", 0, None, None, {}, not found), found)
            large_objects.copy_again(context, found)
    return _close(context, plan, number)


class _Progress:
    """The rows of a table that are compared.

    :param copied: rows that were copied, of which the total consists at least.
    :ivar left: parts that are being compared; the table may have further ones.
    """

    def __init__(self, name: str, copied: int) -> None:
        self.name = name
        self.left = 0
        self.planned = False
        self._copied = copied
        self._rows = 0
        self._lock = threading.Lock()

    def add(self, rows: int) -> None:
        """Count rows, in any thread."""
        with self._lock:
            self._rows += rows

    def report(self, progress: Progress) -> bool:
        """Report the rows; whether the table is compared."""
        done = self.planned and not self.left
        total = self._rows if done else max(self._rows, self._copied)
        progress.table(self.name, self._rows, total, Activity.COMPARED if done else Activity.COMPARING)
        return done


@dataclass(slots=True)
class _Rows:
    """The comparison of the rows of every table.

    :ivar live: what follows a table, of the tables that the application writes to.
    :ivar known: parts that are compared already.
    :ivar catch_up_pass: runs a pass that begins now.
    :ivar backlog: of the application's writes; None if there are none.
    """

    context: Context
    plan: Plan
    number: int
    hashing: Hashing
    live: dict[int, Followed]
    known: dict[tuple[str, str, int], Unit]
    catch_up_pass: Callable[[], object]
    backlog: follow.BacklogWatch | None
    _shown: list[_Progress] = field(default_factory=list)

    def compare(self, jobs: int | None) -> None:
        if jobs is None:
            for name, task in self._tasks():
                self.context.checkpoint(pausable=False)
                between = partial(self.context.checkpoint, pausable=False)
                self._add(name, task(self.context.source, self.context.target, between))
                self._report()
            return
        with closing(Threads(self.context, "verify", ("source", "target"), jobs, self._add, self._look)) as threads:
            threads.run(self._tasks())

    def _tasks(self) -> Iterator[tuple[tuple[RunTable, _Progress], Task[compared_parts.Compared]]]:
        """The parts that are left, by table. A table that is one part comes first, because it takes longest."""
        with self.context.target.transaction(read_only=True) as tx:
            copied = {s.number: s.rows_done for s in table_plans.of_run(tx, self.context.run_id)}
        names = short_names(t.target for t in self.plan.tables)
        for table in sorted(self.plan.tables, key=lambda t: (t.ordered, -t.estimate if not t.ordered else 0)):
            if table.recopied:
                self.context.progress.say(f"{table.target} is compared in the cutover, where it is copied again")
                continue
            progress = _Progress(names[table.target], copied[table.number])
            self._shown.append(progress)
            job = RunTable(table, self.context.schema)
            look = checksum.suspects if table.number in self.live else checksum.differences
            for part in compared_parts.parts_of(self.context, job, self.hashing, look, progress.add):
                before = self.known.get(("rows", str(table.target), part.number))
                if before is None:
                    progress.left += 1
                    yield (job, progress), part.compare
                else:
                    progress.add(before.source_rows or 0)
            progress.planned = True
            self._report()

    def _add(self, of: tuple[RunTable, _Progress], compared: compared_parts.Compared) -> None:
        job, progress = of
        part, found = compared
        if not part.equal and job.table.number in self.live:
            part, found = self._classified(job, part, found)
        _record(self.context, self.number, part, found)
        progress.left -= 1

    def _look(self) -> None:
        self._report()
        if self.backlog is not None:
            self.backlog.look()

    def _report(self) -> None:
        self._shown = [p for p in self._shown if not p.report(self.context.progress)]

    def _classified(self, job: RunTable, part: Unit, found: list[Difference]) -> tuple[Unit, list[Difference]]:
        """The part after its suspects are classified, with the differences that are confirmed."""
        context, followed = self.context, self.live[job.table.number]
        confirmed = compared_parts.classified(context, job, self.hashing, followed, found, self.catch_up_pass)
        rows = part.source_rows if not confirmed else part.target_rows
        return replace(part, target_rows=rows, equal=not confirmed), list(confirmed)


def compare(context: Context, plan: Plan) -> Result:
    """Compare everything except sequences, which a cutover sets, without recording it: for a rehearsal.

    :raises Refused: when not every table is copied and rebuilt.
    """
    refuse_unfinished(context)
    hashing = changed_keys.hashing_of(context, plan)
    units: list[Unit] = []
    found: list[Difference] = []
    for table in plan.tables:
        job = RunTable(table, context.schema)
        for unit in compared_parts.parts_of(context, job, hashing, checksum.differences):
            context.checkpoint()
            part, differing = unit.compare(context.source, context.target, context.check_lease)
            units.append(part)
            found += differing
    for name in (n for n in _checks_of(plan) if n != "sequences"):
        context.checkpoint()
        differing = _checked(context, context.source, plan, name, live=False)
        units.append(Unit(name, "", 0, None, None, {}, not differing))
        found += differing
    return result_of(plan, 0, units, tuple(found))


def refuse_changed(context: Context) -> None:
    """Compare the fingerprint of every table on both sides, and the set of tables.

    :raises Blocked: when the source was changed since the plan, or the target since its constraints were restored.
    """
    kinds = (*fingerprint.CAPTURED, *fingerprint.DATABASE)
    repeated(partial(_refuse_changed, context, context.source, "source", kinds))
    repeated(partial(_refuse_changed, context, context.target, "target", fingerprint.APPLIED))


def _refuse_changed(context: Context, session: Session, side: str, kinds: Sequence[str]) -> None:
    # Functions such as pg_get_expr lock the table of the object. The isolation level is READ COMMITTED: the storage of
    # a table is its current one, so that the log of a TRUNCATE for which the first query waited must be visible too.
    with yielding(session), session.transaction(read_only=True) as tx:
        fingerprint.refuse_changed(tx, context.schema, side, kinds)


def refuse_unfinished(context: Context) -> None:
    """:raises Refused: when a table is not copied completely, or its constraints are not restored."""
    with context.target.transaction(read_only=True) as tx:
        states = table_plans.of_run(tx, context.run_id)
    left = [str(s.target) for s in states if s.phase is not TablePhase.FINISHED]
    if left:
        raise Refused(
            "not every table is copied yet",
            why=f"{', '.join(left[:5])}{' and more' if len(left) > 5 else ''}",
            fix=Naming(context.facts.target_name).command("migrate"),
        )


def servers(context: Context) -> dict[str, str]:
    """The current start of each server: rows compared before a restart may be lost (docs/invariants.md, I-6.9)."""
    return {"source": _server(context.source), "target": _server(context.target)}


def why_stale(context: Context, plan: Plan, last: Verification | None) -> str | None:
    """Why a verification is no longer valid; None when it found no difference and the plan and servers are the same."""
    if last is None or last.verdict != "equal" or last.plan_hash != plan.hash:
        return "the plan changed since"
    again = [side for side, server in servers(context).items() if last.servers[side] != server]
    return f"the server of the {' and of the '.join(again)} was restarted since" if again else None


def refuse_older(context: Context, seconds: float) -> None:
    """:raises Refused: when the last complete verification began more than ``seconds`` ago."""
    with context.target.transaction(read_only=True) as tx:
        age = rounds.age(tx, context.run_id)
        run = runs.find(tx, context.run_id)
    if age is not None and age > seconds and run is not None:
        raise Refused(
            "the verification is too old",
            why=f"the last complete verification began {duration(age)} ago,"
            f" --max-verification-age is {duration(seconds)}",
            fix=Naming(run.target_name).command("verify --again"),
        )


def _server(session: Session) -> str:
    """Identifies the current start of the server: a restart or another timeline changes it."""
    with session.transaction() as tx:
        found = tx.pg.execute(
            "SELECT pg_postmaster_start_time()::text || ' timeline '"
            " || (SELECT timeline_id FROM pg_control_checkpoint())"
        )
        return str(only_row(found)[0])


def _attempt(context: Context, plan: Plan, purpose: str, now: dict[str, str]) -> int:
    # Durable together: the attempt, the target's fingerprint at its start, and no changed keys from before it.
    with context.fenced("verify.begun") as tx:
        last = verifications.latest(tx, context.run_id, purpose)
        # Rows of an earlier attempt may have been rewritten, or changed while the write block was damaged.
        moved = fingerprint.changes(tx, context.schema, (fingerprint.STORAGE, fingerprint.WRITE_BLOCK))
        same = last is not None and not moved and (last.plan_hash, last.servers) == (plan.hash, now)
        if last is not None and same and last.verdict is None and purpose == "verify" and _all_equal(tx, context, last):
            return last.number
        catch_up.discard_all_changed_keys(tx, context.run_id)
        _begin_from(context, tx, plan)
        return verifications.begin(
            tx, context.run_id, epoch=context.epoch, plan_hash=plan.hash, purpose=purpose, servers=now
        )


def _begin_from(context: Context, tx: Transaction, plan: Plan) -> None:
    """Install missing triggers of the write block, and record the storage. Both must not change from now on."""
    tables = [t.target for t in plan.tables]
    if write_block.exists(tx, context.schema):
        write_block.install(tx, context.schema, tables)
    kept = [t.target for t in plan.tables if not t.recopied]
    fingerprint.record(tx, context.schema, fingerprint.oids(tx, kept), (fingerprint.STORAGE,))


def _all_equal(tx: Transaction, context: Context, attempt: Verification) -> bool:
    return all(u.equal for u in verifications.units(tx, context.run_id, attempt.number))


def _checks_of(plan: Plan) -> list[str]:
    return [name for name in CHECKS if name != large_objects.CHECK or plan.large_objects is not None]


def _checked(context: Context, session: Session, plan: Plan, name: str, *, live: bool) -> list[Difference]:
    if name == large_objects.CHECK:
        return large_objects.differences(context, plan, live=live)

    def look() -> list[Difference]:
        with yielding(session):
            return list(_check(context, session, plan, name))

    return repeated(look)


def _check(context: Context, session: Session, plan: Plan, name: str) -> Iterator[Difference]:
    with context.target.transaction() as tx:
        taken = tuple(d for d in deferred_objects.of_run(tx, context.run_id) if not off_until_cutover(plan, d))
        if name == "foreign_keys":
            for key in (d for d in taken if isinstance(d, DeferredForeignKey) and d.validated):
                found = constraints.orphans(tx, key)
                if found:
                    with session.transaction(read_only=True) as source:
                        yield from constraints.explain_orphans(source, found, key, plan, context.schema)
        elif name == "constraints":
            yield from constraints.off(taken)
            yield from constraints.invalid(tx, plan, taken)
        else:
            yield from sequences.behind(session, tx, plan)


def _report_sequences(context: Context, session: Session, plan: Plan) -> None:
    found = _checked(context, session, plan, "sequences", live=True)
    if found:
        names = ", ".join(d.subject for d in found[:3]) + (", ..." if len(found) > 3 else "")
        context.progress.say(
            f"{counted(len(found), 'sequence')} of the target behind the source ({names}); the cutover sets them"
        )


def _record(context: Context, number: int, unit: Unit, found: list[Difference]) -> None:
    # Durable together: the part and its differences.
    with context.fenced("verify") as tx:
        verifications.add_unit(tx, context.run_id, number, unit, found)


def _close(context: Context, plan: Plan, number: int) -> Result:
    refuse_changed(context)
    # Durable together: the verdict, on storage and a write block that have not changed.
    with context.fenced("verify.close") as tx:
        kinds = (fingerprint.STORAGE, fingerprint.WRITE_BLOCK)
        fingerprint.refuse_changed(tx, context.schema, "target", kinds)
        units = verifications.units(tx, context.run_id, number)
        found = verifications.differences(tx, context.run_id, number)
        result = result_of(plan, number, units, found)
        verifications.end(tx, context.run_id, context.epoch, number, None if result.equal else len(found))
    return result


def result_of(plan: Plan, number: int, units: Sequence[Unit], found: tuple[Difference, ...]) -> Result:
    """The result of an attempt from its records in the journal.

    The differences of rows come first, by table and key. Those of one row keep their order, and so do all others.
    """
    places = {str(t.target): i for i, t in enumerate(plan.tables)}

    def place(difference: Difference) -> tuple[int, list[tuple[int, str]]]:
        if difference.check_name != "rows":
            return len(places), []
        # Numbers by their size, as the server orders them; negative ones come first.
        return places[difference.subject], [_sorted_as(text) for text in difference.key_values]

    return Result(number, _tables(plan, units), _checks(units), tuple(sorted(found, key=place)))


def _sorted_as(text: str) -> tuple[int, str]:
    return (int(text), "") if _NUMBER.fullmatch(text) else (0, text)


def _tables(plan: Plan, units: Sequence[Unit]) -> tuple[TableResult, ...]:
    results = []
    for table in plan.tables:
        own = [u for u in units if u.check_name == "rows" and u.subject == str(table.target)]
        a, b = sum(u.source_rows or 0 for u in own), sum(u.target_rows or 0 for u in own)
        equal = all(u.equal for u in own)
        results.append(TableResult(str(table.source), str(table.target), a, b, equal, table.recopied))
    return tuple(results)


def _checks(units: Sequence[Unit]) -> dict[str, bool]:
    done = {u.check_name for u in units}
    return {name: all(u.equal for u in units if u.check_name == name) for name in CHECKS if name in done}


def write_differences(path: Path, differences: Sequence[Difference]) -> None:
    """Write one JSON object a line. Only the owner of the file can read it, because it contains data."""
    with open(path, "w", encoding="utf-8", opener=_owner_only) as file:
        # An existing file would keep its mode otherwise.
        os.fchmod(file.fileno(), 0o600)
        for item in differences:
            file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
    failpoint("report.written")


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def refuse_unwritable(path: Path) -> None:
    """Check before the work that its report can be written.

    :raises UsageError: naming the folder or the file.
    """
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(
            f"the report of differences cannot be written to {path}",
            why="it is a folder, its folder is missing, or this process may not write there",
            fix="specify another file with --differences",
        )


def lock_list(plan: Plan) -> sql.Composed:
    """Every source table of the plan, for LOCK TABLE."""
    names = dict.fromkeys((t.source, t.only) for t in plan.tables)
    items = [sql.SQL("ONLY " if only else "") + ref.identifier for ref, only in names]
    return sql.SQL(", ").join(items)
