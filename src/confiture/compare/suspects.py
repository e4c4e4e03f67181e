"""Rows that differ while the application writes: suspects, until a catch-up pass that began later has run.

Source, target and source are read in this order. A difference is confirmed only when the row did not change on the
source between the two reads, the log has no entry for its key, and the row still differs. A row that changed is hot,
and is compared again (docs/invariants.md, I-6.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from confiture.capture.apply import Followed
from confiture.compare import checksum
from confiture.compare.checksum import Hashing, Side
from confiture.copy.run_table import RunTable, reading
from confiture.journal.model import Difference
from confiture.plan.keyset import KeyPart
from confiture.plan.projection import raw
from confiture.postgres.retry import repeated
from confiture.postgres.session import Session, Transaction

#: Times that a hot row is compared before it is left to the cutover; each time takes a pass.
TRIES = 3
#: Keys compared with one statement.
KEYS_AT_ONCE = 2_000

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for some suspects: confirmed differences, and keys that changed each time."""

    confirmed: tuple[Difference, ...]
    hot: tuple[Key, ...]


def classify(
    source: Session,
    target: Session,
    job: RunTable,
    hashing: Hashing,
    followed: Followed,
    keys: Sequence[Key],
    catch_up: Callable[[], object],
) -> Verdict:
    """Compare suspects again: they are equal, confirmed to differ, or hot.

    :param keys: the suspects, as text in the format of the target's key columns.
    :param catch_up: runs a pass that begins now.
    """
    confirmed: list[Difference] = []
    left = list(keys)
    for _ in range(TRIES):
        if not left or len(confirmed) >= checksum.DIFFERENCES_MOST:
            break
        # A pass that begins now: what the log held when the row was first seen to differ is applied.
        catch_up()
        hot: list[Key] = []
        for at in range(0, len(left), KEYS_AT_ONCE):
            some = left[at : at + KEYS_AT_ONCE]
            found, moved = repeated(partial(_look, source, target, job, hashing, followed, some))
            confirmed += found
            hot += moved
        left = hot
    return Verdict(tuple(confirmed[: checksum.DIFFERENCES_MOST]), tuple(left))


def _look(
    source: Session, target: Session, job: RunTable, hashing: Hashing, followed: Followed, keys: Sequence[Key]
) -> tuple[list[Difference], list[Key]]:
    where = among(job, keys)
    before = _read(source, job, hashing, where["source"])
    with target.transaction(read_only=True) as tx:
        there = checksum.hashes(tx, job, "target", hashing, where["target"])
    with reading(source, job) as tx:
        after = checksum.hashes(tx, job, "source", hashing, where["source"])
        logged = _logged(tx, job, followed, keys)
    differing = [k for k in keys if after.get(k) != there.get(k)]
    hot = [k for k in differing if before.get(k) != after.get(k) or k in logged]
    still = [k for k in differing if k not in set(hot)]
    if not still:
        return [], hot
    narrow = among(job, still)
    with reading(source, job) as a, target.transaction(read_only=True) as b:
        return checksum.differences(a, b, job, hashing, narrow), hot


def _read(source: Session, job: RunTable, hashing: Hashing, where: sql.Composed) -> dict[Key, tuple[int, ...]]:
    with reading(source, job) as tx:
        return checksum.hashes(tx, job, "source", hashing, where)


def among(job: RunTable, keys: Sequence[Key]) -> dict[Side, sql.Composed]:
    """The rows of some keys, as a condition on each side. The keys are text in the format of the target."""

    def on(parts: Sequence[KeyPart]) -> sql.Composed:
        # One array per column: composing a literal per value would take longer than the query.
        arrays = [
            sql.SQL("{}::text[]::{}[]::{}[]").format(sql.Literal([key[i] for key in keys]), raw(wire), raw(part.type))
            for i, (part, wire) in enumerate(zip(parts, job.table.key_wires, strict=True))
        ]
        names = sql.SQL(", ").join(sql.Identifier(part.name) for part in parts)
        if len(parts) == 1:
            return sql.SQL("{} = ANY ({})").format(names, arrays[0])
        return sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(names, sql.SQL(", ").join(arrays))

    return {"source": on(job.table.view_key), "target": on(job.table.target_key)}


def _logged(tx: Transaction, job: RunTable, followed: Followed, keys: Sequence[Key]) -> set[Key]:
    """The keys that have a log row now; a TRUNCATE in the log counts for every key."""
    order = {k.source: i for i, k in enumerate(followed.item.key, 1)}
    names = [f"k{order[k.source]}" for k in job.table.key]
    images = {k.target: k for k in job.table.key}
    wires = {p.target: p.wire for p in job.table.columns if p.target in images}
    texts = sql.SQL(", ").join(
        sql.SQL("({}::{})::text").format(sql.Identifier(name), sql.SQL(wires[k.target]))
        for name, k in zip(names, job.table.key, strict=True)
    )
    rows = tx.pg.execute(sql.SQL("SELECT truncated, {} FROM {}").format(texts, followed.item.log)).fetchall()
    if any(row[0] for row in rows):
        return set(keys)
    return {tuple(row[1:]) for row in rows}
