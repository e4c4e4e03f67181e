"""The complete comparison after a cutover: every row of the source against the target, through the reverse mapping.

A rollback needs it when something happened that reverse passes cannot see: a restart, failover or restore of either
server, a rewrite of a table in the target, a damaged write block on the source (docs/invariants.md, I-10.6). The target
has the correct rows: a row that differs is logged there, and a reverse pass applies it to the source again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from psycopg import IsolationLevel, sql

from confiture import fingerprint
from confiture.capture import triggers, write_block
from confiture.capture.apply import Followed
from confiture.capture.reverse_apply import ReverseFollower
from confiture.capture.triggers import Captured
from confiture.compare import changed_keys, checksum, suspects
from confiture.compare.checksum import Hashing, Sum
from confiture.compare.suspects import Key
from confiture.copy.run_table import RunTable, reading
from confiture.journal import runs, verifications
from confiture.journal.model import Difference, Unit
from confiture.plan.keyset import typed
from confiture.plan.model import Plan
from confiture.postgres.retry import repeated
from confiture.postgres.session import Transaction, brief_lock
from confiture.postgres.yielding import yielding
from confiture.runner.context import Context
from confiture.schema_to_schema import follow, large_objects, verify
from confiture.schema_to_schema.blockers import wait_for_locks
from confiture.schema_to_schema.outcomes import Result, TableResult

#: In the run's options: the start of both servers, as of the last comparison of every row.
SERVERS_OPTION = "reverse_servers"


def why_stale(context: Context) -> str | None:
    """Why every row must be compared before a rollback; None when reverse passes have applied every change."""
    known = context.run().options.get(SERVERS_OPTION)
    now = verify.servers(context)
    again = [side for side, server in now.items() if known is None or known[side] != server]
    if again:
        return f"the server of the {' and of the '.join(again)} was restarted, or failed over, since the cutover"
    rewritten = repeated(partial(_rewritten, context))
    if rewritten:
        return f"table {rewritten[0].table} of the target was rewritten since the cutover"
    with context.source.transaction(read_only=True) as tx:
        damaged = not write_block.is_intact(tx, context.schema)
    return "the write block of the source was damaged" if damaged else None


def _rewritten(context: Context) -> list[fingerprint.Change]:
    with yielding(context.target), context.target.transaction(read_only=True) as tx:
        return fingerprint.changes(tx, context.schema, [fingerprint.STORAGE])


def compare(context: Context, plan: Plan, *, repair: bool = False) -> Result:
    """Compare every row of each table. When all are equal, a rollback needs no further comparison.

    :param repair: apply rows that differ to the source again, as the target has them.
    """
    _restore_block(context, plan)
    now = verify.servers(context)
    hashing = changed_keys.hashing_of(context, plan)
    number = repeated(partial(_begin, context, plan, now))
    forward = {t.number: RunTable(t, context.schema) for t in plan.tables}
    results: list[TableResult] = []
    differences: list[Difference] = []
    with ReverseFollower(context, plan) as follower:
        for followed in follower.followed:
            job = followed.jobs[0]
            follow.one_pass(follower, record_changed=True)
            found, rows = _table(context, follower, followed, forward[job.table.number], hashing, repair=repair)
            names = str(job.table.target), str(job.table.source)
            unit = Unit("rows", names[1], 0, rows[1], rows[0], {}, not found)
            # Durable together: the table's result and its differences.
            with context.fenced("reverse_verify") as tx:
                verifications.add_unit(tx, context.run_id, number, unit, found)
            results.append(TableResult(names[0], names[1], rows[1], rows[0], not found))
            differences += found
            context.progress.say(f"compared {names[0]} with {names[1]}")
    differences += _large_objects(context, plan, repair=repair)
    _end(context, plan, number, now, len(differences) or None)
    return Result(number, tuple(results), {}, tuple(differences))


def _large_objects(context: Context, plan: Plan, *, repair: bool) -> list[Difference]:
    large_objects.synchronise_back(context, plan)
    found = large_objects.differences(context, plan, live=True, back=True)
    if repair and large_objects.copy_again(context, found):
        large_objects.synchronise_back(context, plan)
        found = large_objects.differences(context, plan, live=True, back=True)
    return found


def _restore_block(context: Context, plan: Plan) -> None:
    """Install the write block's triggers on the source again, and its capture, which is needed after a rollback.

    Once every row is equal, a change that is missing in the log is not missing in the target.
    """
    for item in triggers.captured(plan.tables, context.schema):
        # The triggers of the write block and of capture may have to be replaced.
        wait_for_locks(context, "source", [item.table], partial(_restore_one, context, item))


def _restore_one(context: Context, item: Captured) -> None:
    # Durable together: the table's write block and capture.
    with context.fenced_source("reverse_verify.restored") as tx:
        brief_lock(tx)
        write_block.install(tx, context.schema, [item.table])
        if not triggers.is_intact(tx, item):
            triggers.remove(tx, item)
            triggers.install(tx, item)


def _begin(context: Context, plan: Plan, now: dict[str, str]) -> int:
    # Durable together: the attempt, and the fingerprint of the storage that it compares.
    with yielding(context.target), context.fenced("reverse_verify.begun") as tx:
        # A table that is rewritten from now on is detected before the next rollback.
        tables = fingerprint.oids(tx, [t.target for t in plan.tables])
        fingerprint.record(tx, context.schema, tables, (fingerprint.STORAGE,))
        return verifications.begin(
            tx, context.run_id, epoch=context.epoch, plan_hash=plan.hash, purpose="reverse", servers=now
        )


def _end(context: Context, plan: Plan, number: int, now: dict[str, str], differences: int | None) -> None:
    # Durable together: the verdict, and whether a rollback needs another comparison.
    with context.fenced("reverse_verify.ended") as tx:
        run = runs.get(tx, context.run_id)
        if differences is None:
            runs.update(tx, context.run_id, options={**run.options, SERVERS_OPTION: now})
        else:
            tables = [t.target for t in plan.tables]
            fingerprint.discard(tx, context.schema, tables, (fingerprint.STORAGE,))
            runs.update(tx, context.run_id, options={k: v for k, v in run.options.items() if k != SERVERS_OPTION})
        verifications.end(tx, context.run_id, context.epoch, number, differences)


def _table(
    context: Context,
    follower: ReverseFollower,
    followed: Followed,
    forward: RunTable,
    hashing: Hashing,
    *,
    repair: bool,
) -> tuple[list[Difference], tuple[int, int]]:
    """The differences that are confirmed, and the number of rows of the source and of the target."""
    job = followed.jobs[0]
    keys, rows = repeated(partial(_suspects, context, job, forward, hashing))
    found: list[Difference] = []
    for attempt in range(2 if repair else 1):
        if attempt:
            _log(context, followed, [d.key_values for d in found])
        verdict = suspects.classify(
            context.target,
            context.source,
            job,
            hashing,
            followed,
            keys,
            lambda: follow.one_pass(follower, record_changed=True),
        )
        found = [d for d in verdict.confirmed if not _left_behind(context, forward, d)]
        if not found:
            break
    return found, rows


def _suspects(
    context: Context, job: RunTable, forward: RunTable, hashing: Hashing
) -> tuple[list[Key], tuple[int, int]]:
    buckets = checksum.bucket_count(job.table.estimate)
    with (
        reading(context.target, job) as a,
        context.source.transaction(isolation=IsolationLevel.REPEATABLE_READ, read_only=True) as b,
    ):
        x = checksum.bucket_sums(a, job, "source", hashing, buckets)
        y = checksum.bucket_sums(b, job, "target", hashing, buckets)
        # Rows outside $where are on the source alone, so that the sums of such a table cannot be equal.
        wrong = sorted(k for k in x.keys() | y.keys() if forward.table.where or x.get(k) != y.get(k))
        keys: list[Key] = []
        for at in range(0, len(wrong), checksum.BUCKETS_AT_ONCE):
            some = wrong[at : at + checksum.BUCKETS_AT_ONCE]
            where = checksum.bucket_condition(job, hashing, buckets, some)
            keys += [d.key_values for d in checksum.suspects(a, b, job, hashing, where)]
        if forward.table.where:
            keys = _moved(b, forward, keys)
    return keys, (_rows(y), _rows(x))


def _rows(sums: dict[int, Sum]) -> int:
    return sum(s.rows for s in sums.values())


def _moved(source: Transaction, forward: RunTable, keys: Sequence[Key]) -> list[Key]:
    """The keys without those whose rows are on the source alone and outside ``$where``: the target never had them."""
    kept: list[Key] = []
    for some in _parts(keys):
        inside, there = (
            {tuple(row) for row in source.pg.execute(query).fetchall()} for query in _key_queries(forward, some)
        )
        kept += [key for key in some if key in inside or key not in there]
    return kept


def _key_queries(forward: RunTable, keys: Sequence[Key]) -> Iterator[sql.Composed]:
    """Two queries: the keys among ``keys`` in the forward view, and those in the source table."""
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(part.name)) for part in forward.table.view_key)
    where = suspects.among(forward, keys)["source"]
    yield sql.SQL("SELECT {} FROM {} WHERE {}").format(texts, forward.view, where)
    names = sql.SQL(", ").join(sql.Identifier(part.name) for part in forward.table.source_key)
    own = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(p.name)) for p in forward.table.source_key)
    arrays = sql.SQL(", ").join(
        sql.SQL("{}::text[]::{}[]").format(sql.Literal([k[i] for k in keys]), sql.SQL(part.type))
        for i, part in enumerate(forward.table.source_key)
    )
    yield sql.SQL("SELECT {} FROM {} WHERE ({}) IN (SELECT * FROM unnest({}))").format(
        own, forward.source, names, arrays
    )


def _parts(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for at in range(0, len(keys), suspects.KEYS_AT_ONCE):
        yield keys[at : at + suspects.KEYS_AT_ONCE]


def _left_behind(context: Context, forward: RunTable, difference: Difference) -> bool:
    """Whether a row is on the source alone and outside ``$where``."""
    if forward.table.where is None or difference.kind != "not in source":
        return False
    with context.source.transaction(read_only=True) as tx:
        return not _moved(tx, forward, [difference.key_values])


def _log(context: Context, followed: Followed, keys: Sequence[Key]) -> None:
    """Log the keys in the target, as a change there would."""
    columns = followed.item.key
    rows = sql.SQL(", ").join(
        sql.SQL("({})").format(
            sql.SQL(", ").join(typed(text, k.source_type) for text, k in zip(key, columns, strict=True))
        )
        for key in keys
    )
    # Durable together: a log row for each key.
    with context.fenced("reverse_verify.logged") as tx:
        tx.pg.execute(sql.SQL("INSERT INTO {} ({}) VALUES {}").format(followed.item.log, followed.item.log_key, rows))


def judge(context: Context, plan: Plan, forward: RunTable, hashing: Hashing) -> changed_keys.Judge | None:
    """The comparison of rows that are outside ``$where`` now, through the reverse mapping; None without ``$where``.

    Such a row is correct when the source's row equals the target's, although the source's view no longer contains it.
    """
    if forward.table.where is None:
        return None
    back = next(t for t in plan.reverse if t.number == forward.table.number)
    job = RunTable(back, context.schema, side="target")

    def wrong(keys: Sequence[Key]) -> list[Key]:
        where = suspects.among(job, keys)
        with (
            yielding(context.target),
            context.target.transaction(read_only=True) as a,
            context.source.transaction(read_only=True) as b,
        ):
            x = checksum.hashes(a, job, "source", hashing, where["source"])
            y = checksum.hashes(b, job, "target", hashing, where["target"])
        return [k for k in keys if x.get(k) != y.get(k)]

    return lambda keys: repeated(partial(wrong, keys))
