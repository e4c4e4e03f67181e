"""The standing of each migration by its files and the ledger, and what a command therefore runs. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from confiture.errors import Refused
from confiture.incremental.model import Direction, Entry, Migration, Script
from confiture.types import counted


class Standing(StrEnum):
    """Where a migration stands."""

    APPLIED = "applied"
    PENDING = "pending"
    #: Pending, and below one that is applied.
    OUT_OF_ORDER = "out of order"
    #: Some of its statements are done, and not all.
    UNFINISHED = "unfinished"
    #: Applied, and its file has been edited since.
    EDITED = "edited"
    #: Applied, and its file no longer exists.
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Judged:
    """A migration with its standing.

    :ivar migration: None without its file.
    :ivar entry: None when the ledger has never had it.
    """

    standing: Standing
    migration: Migration | None
    entry: Entry | None

    @property
    def version(self) -> int:
        """The version."""
        return self._any.version

    @property
    def label(self) -> str:
        """The version and the name, as its files begin."""
        return self._any.label

    @property
    def _any(self) -> Migration | Entry:
        found = self.migration or self.entry
        assert found is not None, "a migration has a file or an entry"
        return found


class Numbered(Protocol):
    """A step of an ordered history."""

    @property
    def version(self) -> int:
        """Its place in the order."""


V = TypeVar("V", bound=Numbered)


def pending(known: Iterable[V], applied: Iterable[int]) -> list[V]:
    """The steps that are not applied, in the order in which they are to be."""
    done = frozenset(applied)
    return sorted((step for step in known if step.version not in done), key=lambda step: step.version)


def judged(files: Sequence[Migration], ledger: Sequence[Entry]) -> tuple[Judged, ...]:
    """Every migration of the files and of the ledger by version."""
    by_file = {migration.version: migration for migration in files}
    by_ledger = {entry.version: entry for entry in ledger}
    newest = max((entry.version for entry in ledger if entry.applied), default=0)
    found = []
    for version in sorted({*by_file, *(entry.version for entry in ledger if not entry.reverted)}):
        migration, entry = by_file.get(version), by_ledger.get(version)
        found.append(Judged(_standing(migration, entry, newest), migration, entry))
    return tuple(found)


def _standing(migration: Migration | None, entry: Entry | None, newest: int) -> Standing:
    if entry is not None and not entry.done:
        return Standing.UNFINISHED
    if entry is None or entry.reverted:
        assert migration is not None, "a migration without a file is in the ledger"
        return Standing.OUT_OF_ORDER if migration.version < newest else Standing.PENDING
    if migration is None:
        return Standing.MISSING
    return Standing.APPLIED if migration.up.checksum == entry.up_checksum else Standing.EDITED


def to_apply(every: Sequence[Judged], to: int | None, *, out_of_order: bool) -> tuple[Migration, ...]:
    """The migrations that ``up`` applies, in this order: an unfinished one first.

    :param to: the last version to apply; None for all.
    :param out_of_order: whether those below an applied one are applied too.
    :raises Refused: when the files and the ledger contradict each other; every contradiction is named.
    """
    _refuse_unknown(every, to)
    _refuse_contradictions(every)
    unfinished = [each for each in every if each.standing is Standing.UNFINISHED]
    for each in unfinished:
        _refuse_unfinished(each, to)
    chosen = [each for each in every if each.standing in (Standing.PENDING, Standing.OUT_OF_ORDER)]
    chosen = [each for each in chosen if to is None or each.version <= to]
    below = [each for each in chosen if each.standing is Standing.OUT_OF_ORDER]
    if below and not out_of_order:
        newest = max(each.version for each in every if each.entry is not None and each.entry.applied)
        raise Refused(
            f"{counted(len(below), 'migration')} would be applied out of order",
            why=f"{_labels(below)} is not applied, and {newest} is",
            fix="give the file a later version, or add --out-of-order",
        )
    return tuple(each.migration for each in (*unfinished, *chosen) if each.migration is not None)


def _labels(several: Sequence[Judged]) -> str:
    return ", ".join(each.label for each in several)


def _refuse_unknown(every: Sequence[Judged], version: int | None) -> None:
    if version is not None and version not in {each.version for each in every}:
        known = [each.label for each in every]
        why = f"the last is {known[-1]}" if known else "there is none at all"
        raise Refused(f"there is no migration {version}", why=why, fix="confiture migrate status lists them")


def _refuse_contradictions(every: Sequence[Judged]) -> None:
    reasons = []
    for each in every:
        if each.standing is Standing.EDITED and each.migration is not None and each.entry is not None:
            now, then = each.migration.up.checksum, each.entry.up_checksum
            reasons.append(f"{each.migration.up.path} was edited: the file has {now}, the ledger has {then}")
        elif each.standing is Standing.MISSING:
            reasons.append(f"the file of {each.label}, which is applied, is missing")
    if reasons:
        raise Refused(
            "the files are not those that were applied",
            why="\n".join(reasons),
            fix="restore the files and write the change as a new migration; or accept the files as they are:"
            " confiture migrate baseline VERSION",
        )


def _refuse_unfinished(each: Judged, to: int | None) -> None:
    assert each.entry is not None, "an unfinished migration is in the ledger"
    if each.entry.direction is Direction.DOWN:
        raise Refused(
            f"{each.label} is partly reverted",
            why="some statements of its down file are done",
            fix="revert it completely: confiture migrate down",
        )
    if each.migration is None:
        why = "some of its statements are done, and its file is missing"
        raise Refused(f"{each.label} is partly applied", why=why, fix="restore the file")
    if to is not None and each.version > to:
        why = f"it is later than {to}, and some of its statements are done"
        raise Refused(f"{each.label} is partly applied", why=why, fix="name it or a later one, or revert it first")


def to_revert(every: Sequence[Judged], steps: int, to: int | None) -> tuple[tuple[Judged, Script], ...]:
    """The migrations that ``down`` reverts, the newest first, each with the file that does.

    :param steps: how many, unless ``to`` is given.
    :param to: the version that stays the newest; 0 reverts all; None for ``steps``.
    :raises Refused: when one of them cannot be reverted.
    """
    if to:
        _refuse_unknown(every, to)
    there = (Standing.APPLIED, Standing.EDITED, Standing.MISSING, Standing.UNFINISHED)
    applied = sorted((each for each in every if each.standing in there), key=lambda each: each.version, reverse=True)
    first = [each for each in applied if each.standing is Standing.UNFINISHED]
    applied = [*first, *(each for each in applied if each not in first)]
    chosen = applied[:steps] if to is None else [each for each in applied if each.version > to]
    if first and chosen and first[0] not in chosen:
        raise Refused(
            f"{first[0].label} is unfinished", why="it comes first", fix="finish it with confiture migrate up"
        )
    without = [each for each in chosen if each.migration is None or each.migration.down is None]
    if without:
        raise Refused(
            f"{counted(len(without), 'migration')} cannot be reverted",
            why="\n".join(f"{each.label}.down.sql is missing" for each in without),
            fix="write the file; or revert fewer migrations",
        )
    return tuple((each, each.migration.down) for each in chosen if each.migration and each.migration.down)


def to_record(every: Sequence[Judged], version: int) -> tuple[tuple[Migration, ...], tuple[Entry, ...]]:
    """What ``baseline`` records as applied, and the entries that it discards because they have no file.

    Migrations that are applied as their files are now are not among them.

    :raises Refused: when the version is unknown, or the ledger has a later one or an unfinished one.
    """
    _refuse_unknown(every, version)
    for each in every:
        if each.entry is not None and each.standing is Standing.UNFINISHED:
            raise Refused(
                f"{each.label} is unfinished", why="some statements are done", fix="finish it first: up or down"
            )
        if each.entry is not None and each.entry.applied and each.version > version:
            raise Refused(
                f"the ledger has a later migration than {version}",
                why=f"{each.label} is applied",
                fix="name the last migration that the database has",
            )
    of_interest = [each for each in every if each.version <= version and each.standing is not Standing.APPLIED]
    recorded = tuple(each.migration for each in of_interest if each.migration is not None)
    discarded = tuple(each.entry for each in of_interest if each.migration is None and each.entry is not None)
    return recorded, discarded
