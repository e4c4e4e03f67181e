"""The SQL with which an auditor repeats the comparison of a table, on each side."""

from __future__ import annotations

from psycopg import sql

from confiture.compare import checksum
from confiture.copy.run_table import RunTable
from confiture.plan.model import Plan, TablePlan
from confiture.postgres.profile import OF_VALUES, PROFILE
from confiture.schema_to_schema.plan_store import select_of
from confiture.status.details import Comparison


def comparison(table: TablePlan, plan: Plan) -> Comparison:
    """The statements of a table."""
    statements = checksum.repeated(RunTable(table, ""), select_of(table), recode=plan.recode)
    return Comparison(str(table.target), statements["source"], statements["target"])


def settings() -> tuple[str, ...]:
    """The statements of the settings that these need. The path is a list of names, and not one name with its text."""
    return tuple(sql.SQL("SET {} = {}").format(sql.Identifier(name), _setting(name)).as_string() for name in OF_VALUES)


def _setting(name: str) -> sql.Composable:
    return sql.Identifier(PROFILE[name]) if name == "search_path" else sql.Literal(PROFILE[name])
