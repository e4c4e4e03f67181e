"""Missing references: fetch the rows that the target's rows refer to, until every foreign key holds.

The work is decided by the target's own rows: values of a foreign key without a parent row are looked up on the source
and inserted. Nothing is recorded, because a process that is killed finds the rest again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from confiture.catalog_model import Catalog
from confiture.copy.run_table import RunTable
from confiture.journal.model import DeferredForeignKey
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.types import TableRef

#: A transaction on the source that holds some planned tables in ACCESS SHARE and reads them in one snapshot.
Reading = Callable[[Context, Sequence[RunTable]], AbstractContextManager[Transaction]]


@dataclass(frozen=True, slots=True)
class Filled:
    """The rows that were inserted and removed so that every foreign key holds.

    :ivar added: by target table: rows that others refer to.
    :ivar orphans: by target table: rows removed because the source has no parent for them either.
    :ivar gone: by target table: rows removed because the source has removed them since they were copied.
    """

    added: Mapping[TableRef, int] = field(default_factory=dict)
    orphans: Mapping[TableRef, int] = field(default_factory=dict)
    gone: Mapping[TableRef, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """The rows of one foreign key, counted by a query of its own.

    :ivar rows: whose values are not NULL.
    :ivar violations: those without a parent. Only a key that is declared NOT VALID or NOT ENFORCED may have some.
    """

    key: DeferredForeignKey
    rows: int
    violations: int


def fill(
    context: Context,
    jobs: Mapping[TableRef, RunTable],
    keys: Sequence[DeferredForeignKey],
    source: Catalog,
    reading: Reading,
) -> Filled:
    """Insert the rows that the target's rows refer to.

    Called between the build of the unique indexes and the addition of the foreign keys, while user triggers are off.
    Each batch is durable with all that it refers to within its cycle. A process that is killed repeats at most one.

    :param jobs: the planned tables, by target table. The conditions of their plans do not limit what is fetched.
    :param keys: the foreign keys of the target.
    :param source: the catalog of the source.
    :raises DataFailure: when the parents of a key are not part of the sync, or do not fit into the target.
    """
    raise NotImplementedError


def check(context: Context, keys: Sequence[DeferredForeignKey]) -> tuple[Checked, ...]:
    """Count the rows of each foreign key and those without a parent, independently of the constraint's validation."""
    raise NotImplementedError
