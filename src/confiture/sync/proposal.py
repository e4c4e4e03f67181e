"""The plan of a sync, created before anything is changed or a row is copied, with every fault at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from confiture.catalog_model import Catalog
from confiture.config import Database
from confiture.errors import Fault, FaultyInput
from confiture.log import log
from confiture.masking import fit, key, mask_file
from confiture.masking.assignment import assigned
from confiture.masking.detection import Detection, detect, refusal, refusal_of_unsampled
from confiture.masking.model import MaskFile, Masks
from confiture.plan import expressions
from confiture.plan.projection import wire_type
from confiture.postgres import yielding
from confiture.postgres.retry import retry
from confiture.postgres.session import Session, Transaction
from confiture.schema_to_schema import plan_store
from confiture.sync import conditions, planning, sides, tables
from confiture.sync.choice import Choice, choice
from confiture.sync.planning import Planned
from confiture.sync.request import MASK_FILE, Request
from confiture.sync.selection import Selection, selections
from confiture.sync.sides import Sides
from confiture.types import TableRef


def propose(database: Database, target: Session, request: Request) -> Planned:
    """The plan of a sync, with its masks and its choice of rows. Nothing is changed, and no row is copied.

    :param database: the source.
    :param target: a session to the target, whose DDL is executed and rolled back if it has no tables.
    :raises FaultyInput: with every fault of the options and of the mask file.
    :raises Refused: with every column that looks personal and has no rule, naming what cannot be copied, that the masks
        need a key, or that masked values do not fit.
    """
    found_there = plan_store.catalog_of(target)
    with (
        Session(database, "plan") as source,
        yielding.watching(log.info),
        plan_store.as_built(target.database, found_there) as (built, there, _),
    ):
        here, notes = sides.read_source(source)
        both = Sides(here, there, notes)
        file, faults = mask_file.parse(request.mask, request.mask_file)
        chosen, of_choice = choice(here, tables=request.tables, where=request.where, percent=request.sample)
        masks, of_masks = assigned(here, there, file, request.allowed)
        found = [*faults, *of_choice, *of_masks]
        if not found:
            found = [*_of_sql(database, both, chosen, masks)]
        if found:
            raise _faulty(found)
        wanted = _wanted(both, chosen, selections(here, there, chosen))
        _refuse_personal(source, both, wanted, masks, file)
        if masks.needs_key:
            key.from_environment()
        plan, more = planning.plan(both, masks, wanted)
        plan = planning.without_estimates(plan)
        _refuse_misfits(database, built, both, wanted, masks)
        return Planned(plan, masks, wanted, there, planning.shapes(source, plan), more)


def _refuse_personal(source: Session, both: Sides, wanted: Collection[TableRef], masks: Masks, file: MaskFile) -> None:
    """:raises Refused: listing every column of the sync that looks personal and has no rule, or cannot be sampled."""

    def look() -> Detection:
        with yielding.yielding(source), source.transaction(read_only=True) as tx:
            return detect(tx, _only(both.source, wanted), both.target, masks)

    found = retry(look)
    if found.suspicions:
        raise refusal(found.suspicions, file, file.file or MASK_FILE)
    if found.unsampled:
        raise refusal_of_unsampled(found.unsampled)


def _refuse_misfits(
    database: Database, built: Transaction, both: Sides, wanted: Collection[TableRef], masks: Masks
) -> None:
    """:raises Refused: when masked values of some rows violate a check of the target, or are too long."""
    of_sync = Masks(tuple(m for m in masks.masks if m.table in wanted))
    if not any(m.is_masked for m in of_sync.masks):
        return

    def look() -> tuple[str, ...]:
        session = Session(database, "expressions", user_sql=True)
        with session as source, yielding.yielding(source), source.transaction(read_only=True) as here:
            if of_sync.needs_key:
                tables.settle(here)
            return fit.misfits(here, built, _only(both.source, wanted), both.target, of_sync)

    found = retry(look)
    if found:
        raise fit.refused(found)


def _only(catalog: Catalog, wanted: Collection[TableRef]) -> Catalog:
    return replace(catalog, tables=tuple(t for t in catalog.tables if t.ref in wanted))


def _faulty(found: Iterable[Fault]) -> FaultyInput:
    faults = sorted(found, key=lambda f: (f.file, f.line, f.column))
    return FaultyInput("the sync cannot begin", faults, fix="correct this; nothing was changed and no row was read")


def _wanted(both: Sides, chosen: Choice, found: Mapping[TableRef, Selection]) -> dict[TableRef, Selection]:
    """The tables of the sync: those that are chosen, and those that their rows may refer to."""
    known = dict(found)
    if chosen.tables is None:
        return known
    reached, roots = set(chosen.tables), _roots(both)
    while True:
        further = {
            roots.get(key.references, key.references)
            for catalog in (both.source, both.target)
            for table in catalog.tables
            if table.ref in reached
            for key in table.foreign_keys
        } - reached
        if not further:
            break
        reached |= further
    return {ref: selection for ref, selection in known.items() if ref in reached}


def _roots(both: Sides) -> dict[TableRef, TableRef]:
    """Of each partition that a foreign key can reference, which has a unique index, the table that it is part of."""
    tables = (table for catalog in (both.source, both.target) for table in catalog.tables)
    return {index.table: table.ref for table in tables for index in table.partition_indexes}


def _of_sql(database: Database, both: Sides, chosen: Choice, masks: Masks) -> Iterable[Fault]:
    """The faults of SQL that the operator wrote, as the source reports them."""
    with Session(database, "expressions", user_sql=True) as source, source.transaction(read_only=True) as tx:
        yield from conditions.faults(tx, both.source, chosen)
        for mask in masks.masks:
            if mask.rule.sql is None:
                continue
            column = both.target.by_ref[mask.table].column(mask.column)
            if column is None or mask.table not in both.source.by_ref:
                continue
            wire = wire_type(column)[0]
            found = expressions.problem_of(tx, both.source.by_ref[mask.table], mask.rule.sql, wire)
            if found.problem is not None:
                yield Fault("", 0, 0, f"sql of {mask.table}.{mask.column}: {found.problem}", found.hint)
