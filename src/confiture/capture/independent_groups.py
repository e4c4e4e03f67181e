"""Groups of tables that do not depend on each other, so that a pass can apply each in a transaction of its own.

Tables depend on each other when one session's rows could wait for those of another one, or be checked against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from confiture import fingerprint
from confiture.postgres.session import Transaction
from confiture.sql import load
from confiture.types import TableRef

T = TypeVar("T")


def find(target: Transaction, items: Sequence[tuple[T, Sequence[TableRef]]]) -> list[list[T]]:
    """The items in groups, in the order of their first items.

    Items are in one group if they fill the same table, or tables that foreign keys, partitioning or inheritance in the
    target connect. A table that no item fills connects too: its rows are locked for the check of a foreign key.

    :param items: each with the tables that it fills.
    """
    names = fingerprint.oids(target, (ref for _, refs in items for ref in refs))
    parents: dict[int | TableRef, int | TableRef] = {}

    def root(of: int | TableRef) -> int | TableRef:
        while (above := parents.setdefault(of, of)) != of:
            parents[of] = parents[above]
            of = above
        return of

    for one, other in target.pg.execute(load("catch_up.sql")["connections"]).fetchall():
        parents[root(one)] = root(other)
    for _, refs in items:
        for ref in refs[1:]:
            parents[root(names.get(ref, ref))] = root(names.get(refs[0], refs[0]))
    groups: dict[int | TableRef, list[T]] = {}
    for item, refs in items:
        groups.setdefault(root(names.get(refs[0], refs[0])), []).append(item)
    return list(groups.values())
