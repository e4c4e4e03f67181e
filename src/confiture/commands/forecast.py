"""The forecast of a run, for ``plan`` and ``setup``."""

from __future__ import annotations

from confiture.commands.databases import both_databases
from confiture.commands.driver_errors import translated
from confiture.commands.endpoints import Endpoints
from confiture.log import log
from confiture.plan.forecast import Forecast
from confiture.postgres import yielding
from confiture.schema_to_schema import forecast
from confiture.schema_to_schema.plan_store import Planned


def of(where: Endpoints, planned: Planned, *, sample: bool) -> Forecast | None:
    """The forecast of a plan; None for a run that is set up already. Nothing is changed.

    :param sample: read some rows of each large table, which takes a few seconds in all.
    """
    if planned.state is not None:
        return None
    source, target = both_databases(where)
    with translated("plan"), yielding.watching(log.info):
        return forecast.make(source, target, planned, exists=planned.created is None, sample=sample)
