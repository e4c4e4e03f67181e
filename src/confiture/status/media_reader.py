"""Add the migrations and the syncs of a target to its status report, in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import psycopg

from confiture.naming import Naming
from confiture.postgres.session import Transaction
from confiture.states import MIGRATIONS, SYNC, Medium
from confiture.status import migrations_reader, sync_reader
from confiture.status.facts import Report, ServerReport


@dataclass(frozen=True, slots=True)
class Place:
    """The target of a report: its server, how the operator names it, and the project."""

    server: ServerReport
    named: Naming
    project: Path


#: The report with what one medium adds to it, and the runs that it then has.
_Read = Callable[[Transaction, Report, Place, bool], tuple[Report, list[UUID]]]


def added(
    tx: Transaction,
    found: Report,
    place: Place,
    present: Collection[str],
    beside: Callable[[Transaction, UUID, Medium], None] | None,
    *,
    every: bool,
) -> Report:
    """The report with what the journal has of other media. What the role may not read is reported as unknown.

    :param present: the media of which the journal has runs.
    :param beside: called for each run that the report then has.
    :param every: whether all syncs are reported.
    """
    ids: list[tuple[UUID, Medium]] = []
    readers: tuple[tuple[Medium, _Read], ...] = ((MIGRATIONS, _migrations), (SYNC, _syncs))
    for medium, read in readers:
        if medium not in present:
            continue
        try:
            with tx.pg.transaction():
                found, read_ids = read(tx, found, place, every)
                ids += [(run, medium) for run in read_ids]
        except psycopg.errors.InsufficientPrivilege as error:
            found = replace(found, unknown=(*found.unknown, _unreadable(place, error)))
    if beside is not None:
        for run, medium in ids:
            beside(tx, run, medium)
    return found


def _migrations(tx: Transaction, found: Report, place: Place, every: bool) -> tuple[Report, list[UUID]]:
    run, one = migrations_reader.read(tx, found.generated_at, place.server, place.named, place.project)
    return replace(found, migrations=(one,)), [run]


def _syncs(tx: Transaction, found: Report, place: Place, every: bool) -> tuple[Report, list[UUID]]:
    read = sync_reader.read(tx, found.generated_at, place.server, place.named, place.project, every=every)
    return replace(found, syncs=tuple(one for _, one in read)), [run for run, _ in read]


def _unreadable(place: Place, error: psycopg.Error) -> str:
    grant = "the owner of the journal grants it with confiture grants --viewer"
    return f"the journal of {place.named.target} cannot be read: {error.diag.message_primary}; {grant}"
