"""The keys that changed since a verification looked at their rows: compared once more, then forgotten (I-6.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from confiture.compare import checksum, suspects
from confiture.compare.checksum import Hashing
from confiture.compare.suspects import Key
from confiture.copy.run_table import RunTable, reading
from confiture.journal import catch_up
from confiture.journal.verifications import Difference
from confiture.plan.model import Plan
from confiture.postgres.retry import repeated
from confiture.runner.context import Context

#: Touched keys compared with one statement.
KEYS_AT_ONCE = 2_000
#: So few are compared in an instant under the lock (some 20 ms); so often it is tried to get there.
FEW_KEYS = 500
ROUNDS = 10


def batches(context: Context, job: RunTable) -> list[list[Key]]:
    """The table's keys that changed, in parts that one statement can name."""
    with context.target.transaction(read_only=True) as tx:
        keys = [tuple(key) for key in catch_up.touched_keys(tx, context.run_id, job.table.number)]
    return [keys[at : at + KEYS_AT_ONCE] for at in range(0, len(keys), KEYS_AT_ONCE)]


def only(context: Context, jobs: Iterable[RunTable]) -> list[RunTable]:
    """Those of the jobs whose tables have keys that changed."""
    with context.target.transaction(read_only=True) as tx:
        numbers = catch_up.touched_tables(tx, context.run_id)
    return [job for job in jobs if job.table.number in numbers]


def hashing_of(context: Context, plan: Plan) -> Hashing:
    """How rows are hashed, agreed by both servers."""
    with context.source.transaction(read_only=True) as a, context.target.transaction(read_only=True) as b:
        return checksum.agree(a, b, recode=plan.recode)


def some(context: Context, job: RunTable, after: Key | None) -> list[Key]:
    """The next touched keys of a table, in the journal's order, at most KEYS_AT_ONCE.

    :param after: only those behind this one; None for the first.
    """
    behind = None if after is None else list(after)
    with context.target.transaction(read_only=True) as tx:
        found = catch_up.touched_keys(tx, context.run_id, job.table.number, after=behind, most=KEYS_AT_ONCE)
    return [tuple(key) for key in found]


#: Keys that differ, with the hash their source has (None: no such row): it stands still or moves.
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


def forget(context: Context, job: RunTable, keys: Sequence[Key]) -> None:
    """Done with these keys: a change that comes later is logged, and touches its key again."""
    with context.fenced() as tx:
        catch_up.forget_touched(tx, context.run_id, job.table.number, [list(k) for k in keys])


#: Of some keys that the source's view has no row for, those whose rows are wrong all the same.
Judge = Callable[[Sequence[Key]], Sequence[Key]]


def _wrong(context: Context, job: RunTable, hashing: Hashing, keys: Sequence[Key], judge: Judge | None) -> Hashes:
    wrong = differing(context, job, hashing, keys)
    absent = [k for k, source in wrong.items() if source is None]
    if judge is None or not absent:
        return wrong
    still = set(judge(absent))
    return {k: h for k, h in wrong.items() if h is not None or k in still}


def discard_equal(context: Context, job: RunTable, hashing: Hashing, judge: Judge | None = None) -> Hashes:
    """Forget the table's keys that agree; those that differ now."""
    found: Hashes = {}
    for keys in batches(context, job):
        wrong = _wrong(context, job, hashing, keys, judge)
        forget(context, job, [k for k in keys if k not in wrong])
        found.update(wrong)
    return found


def compare(
    context: Context, job: RunTable, hashing: Hashing, between: Callable[[], None], judge: Judge | None = None
) -> list[Difference]:
    """Compare every touched key of a table that is locked, or at rest; the first differences found.

    Nothing is forgotten: under a lock there is no time for it.

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
