"""The conditions of ``--where``, checked by the source, which prepares each of them and reads no row."""

from __future__ import annotations

from confiture.catalog_model import Catalog
from confiture.errors import Fault
from confiture.plan import expressions
from confiture.postgres.session import Transaction
from confiture.sync.choice import Choice


def faults(tx: Transaction, source: Catalog, choice: Choice) -> tuple[Fault, ...]:
    """A fault for each condition that the source rejects, with its reason.

    :param tx: on the source, in which names resolve as where the rows are read.
    """
    found = []
    for ref, condition in sorted(choice.conditions.items()):
        facts = expressions.problem_of(tx, source.by_ref[ref], condition, "")
        if facts.problem is not None:
            found.append(Fault("", 1, 1, f"--where {ref}: {facts.problem}", facts.hint or _hint(facts.problem)))
    return tuple(found)


def _hint(problem: str) -> str:
    if problem.startswith(("relation", "function")) and "does not exist" in problem:
        return "write its schema too: a condition is read with the search_path of the environment"
    if problem.startswith(("syntax error", "unterminated")):
        return "a condition is one SQL expression, without a semicolon; quote it for the shell"
    return ""
