"""Keys that have changed since a verification compared their rows: compared again, then discarded (I-6.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from confiture.compare import checksum, suspects
from confiture.compare.checksum import Hashing
from confiture.compare.suspects import Key
from confiture.copy.run_table import RunTable, reading
from confiture.journal import catch_up
from confiture.journal.model import Difference
from confiture.plan.model import Plan
from confiture.postgres.retry import repeated
from confiture.runner.context import Context

#: Changed keys compared with one statement.
KEYS_AT_ONCE = 2_000
#: Number of keys that can be compared under the lock (in some 20 ms), and number of attempts to get below it.
FEW_KEYS = 500
ROUNDS = 10


def batches(context: Context, job: RunTable) -> list[list[Key]]:
    """The changed keys of the table, in parts for one statement each."""
    with context.target.transaction(read_only=True) as tx:
        keys = [tuple(key) for key in catch_up.changed_keys(tx, context.run_id, job.table.number)]
    return [keys[at : at + KEYS_AT_ONCE] for at in range(0, len(keys), KEYS_AT_ONCE)]


def only(context: Context, jobs: Iterable[RunTable]) -> list[RunTable]:
    """The tables that have changed keys."""
    with context.target.transaction(read_only=True) as tx:
        numbers = catch_up.changed_tables(tx, context.run_id)
    return [job for job in jobs if job.table.number in numbers]


def hashing_of(context: Context, plan: Plan) -> Hashing:
    """How rows are hashed, agreed by both servers."""
    with context.source.transaction(read_only=True) as a, context.target.transaction(read_only=True) as b:
        return checksum.agree(a, b, recode=plan.recode)


def some(context: Context, job: RunTable, after: Key | None) -> list[Key]:
    """The next changed keys of a table, in the journal's order, at most KEYS_AT_ONCE.

    :param after: only keys behind this one; None for the first keys.
    """
    behind = None if after is None else list(after)
    with context.target.transaction(read_only=True) as tx:
        found = catch_up.changed_keys(tx, context.run_id, job.table.number, after=behind, most=KEYS_AT_ONCE)
    return [tuple(key) for key in found]


#: Keys whose rows differ, with the hashes of the row on the source; None when the source has no such row.
Hashes = dict[Key, tuple[int, ...] | None]


def differing(context: Context, job: RunTable, hashing: Hashing, keys: Sequence[Key]) -> Hashes:
    """Which of the keys' rows differ now."""
    return repeated(partial(_differing, context, job, hashing, keys))


def _differing(context: Context, job: RunTable, hashing: Hashing, keys: Sequence[Key]) -> Hashes:
    where = suspects.among(job, keys)
    with reading(context.source, job) as a, context.target.transaction(read_only=True) as b:
        x = checksum.hashes(a, job, "source", hashing, where["source"])
        y = checksum.hashes(b, job, "target", hashing, where["target"])
    return {k: x.get(k) for k in keys if x.get(k) != y.get(k)}


def discard(context: Context, job: RunTable, keys: Sequence[Key]) -> None:
    """Discard these keys from the changed ones: a later change is logged, and records its key again."""
    # Durable: the keys are no longer recorded as changed.
    with context.fenced("verify.equal_keys") as tx:
        catch_up.discard_changed_keys(tx, context.run_id, job.table.number, [list(k) for k in keys])


#: Of keys without a row in the source's view, returns those whose rows differ nevertheless.
Judge = Callable[[Sequence[Key]], Sequence[Key]]


def _wrong(context: Context, job: RunTable, hashing: Hashing, keys: Sequence[Key], judge: Judge | None) -> Hashes:
    wrong = differing(context, job, hashing, keys)
    absent = [k for k, source in wrong.items() if source is None]
    if judge is None or not absent:
        return wrong
    still = set(judge(absent))
    return {k: h for k, h in wrong.items() if h is not None or k in still}


def discard_equal(context: Context, job: RunTable, hashing: Hashing, judge: Judge | None = None) -> Hashes:
    """Discard the table's changed keys whose rows agree; the keys whose rows differ now."""
    found: Hashes = {}
    for keys in batches(context, job):
        wrong = _wrong(context, job, hashing, keys, judge)
        discard(context, job, [k for k in keys if k not in wrong])
        found.update(wrong)
    return found


def compare(
    context: Context, job: RunTable, hashing: Hashing, between: Callable[[], None], judge: Judge | None = None
) -> list[Difference]:
    """Compare every changed key of a table that is locked or not written to; the first differences found.

    No key is discarded, because that takes too long under a lock.

    :param between: called between parts; raises to stop.
    """
    for keys in batches(context, job):
        between()
        wrong = _wrong(context, job, hashing, keys, judge)
        if wrong:
            where = suspects.among(job, sorted(wrong))
            with context.source.transaction(read_only=True) as a, context.target.transaction(read_only=True) as b:
                found = checksum.differences(a, b, job, hashing, where)
            if found:
                return found
    return []
