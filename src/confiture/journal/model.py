"""The values that the journal stores. No I/O: each module of this folder reads and writes the rows of its table."""

from __future__ import annotations

from enum import StrEnum


class TablePhase(StrEnum):
    """The phase of a table of the plan, in the order in which a table reaches them."""

    PLANNED = "planned"
    COPYING = "copying"
    COPIED = "copied"
    #: In reports only: copied, with an index or constraint that is not restored yet. The journal stores ``copied``.
    INDEXING = "indexing"
    FINISHED = "finished"


#: The phases in which the table's rows are in the target.
COPIED = (TablePhase.COPIED, TablePhase.FINISHED)


class DeferredStatus(StrEnum):
    """The status of a deferred object: off, represented by its interim, or as declared."""

    OFF = "off"
    INTERIM = "interim"
    BACK = "back"
