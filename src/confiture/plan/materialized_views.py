"""Which materialized views of the target are refreshed: those that can be read there, or on the source.

``pg_dump`` writes every materialized view WITH NO DATA and refreshes it after the rows. A view that the source's
application reads must not be unreadable after the cutover, so the source decides as well (I-11.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from confiture.catalog_model import Catalog, MaterializedView
from confiture.types import TableRef


def refreshed(source: Catalog, target: Catalog) -> tuple[TableRef, ...]:
    """The views to refresh, in the order of their creation: each after those that it reads."""
    on_source = {v.ref for v in source.materialized_views if v.populated}
    wanted: set[TableRef] = set()
    for view in target.materialized_views:
        if view.populated or view.ref in on_source:
            wanted |= {view.ref, *view.reads}
    return tuple(v.ref for v in _ordered(target) if v.ref in wanted)


def notes(target: Catalog, refreshed: tuple[TableRef, ...]) -> Iterator[str]:
    """Name the views that stay without data."""
    for view in target.materialized_views:
        if view.ref not in refreshed:
            yield (
                f"materialized view {view.ref} is not refreshed: it is WITH NO DATA in the target, and no view of that"
                " name has data on the source"
            )


def _ordered(target: Catalog) -> list[MaterializedView]:
    # A view that was replaced may read a later one. A reader of a view also reads what that view reads, so it has more.
    return sorted(target.materialized_views, key=lambda v: len(v.reads))
