"""The rules, one module for each family; each judges a statement by ``check(statement, seen)``."""

from __future__ import annotations

from confiture.lint.rules import (
    added_columns,
    changed_columns,
    constraints,
    domains,
    enums,
    files,
    indexes,
    names_in_use,
    partitions,
    rows,
    storage,
    transactions,
    triggers,
    unique_keys,
)

#: The families that judge statements, in the order of their findings.
FAMILIES = (
    transactions,
    added_columns,
    changed_columns,
    constraints,
    domains,
    unique_keys,
    indexes,
    partitions,
    storage,
    names_in_use,
    rows,
    enums,
    triggers,
)

#: Every rule by its name, in the order of the families.
RULES = {rule.name: rule for family in (*FAMILIES, files) for rule in family.RULES}
