"""The options that a sync stores with its run besides the plan: request, masks, notes. No I/O."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter

from confiture.masking.model import Mask, Masks
from confiture.sync.outcome import ColumnMasked, columns
from confiture.sync.planning import Planned
from confiture.sync.request import Request
from confiture.types import Json


@cache
def _masks_form() -> TypeAdapter[tuple[Mask, ...]]:
    return TypeAdapter(tuple[Mask, ...])


@cache
def _columns_form() -> TypeAdapter[tuple[ColumnMasked, ...]]:
    return TypeAdapter(tuple[ColumnMasked, ...])


def options(request: Request, planned: Planned, check_value: str | None) -> Json:
    """The options that the run stores.

    :param check_value: of the key of the masks; None where no rule needs one.
    """
    return {
        **request.as_json(),
        "masks": _masks_form().dump_python(planned.masks.masks, mode="json"),
        "columns": _columns_form().dump_python(columns(planned.plan, planned.masks), mode="json"),
        "chosen": {str(ref): selection.reason for ref, selection in planned.selections.items()},
        "notes": list(planned.notes),
        "mask_check": check_value,
    }


def masks(stored: Json) -> Masks:
    """The masks with which the run copies."""
    return Masks(_masks_form().validate_python(stored["masks"]))


def masked_columns(stored: Json) -> tuple[ColumnMasked, ...]:
    """Every column of the run with its rule."""
    return _columns_form().validate_python(stored["columns"])
