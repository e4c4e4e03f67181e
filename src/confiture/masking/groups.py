"""The columns that foreign keys link, which must be masked alike. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx

from confiture.catalog_model import Table
from confiture.types import TableRef

#: A column of a table.
Place = tuple[TableRef, str]


def linked(tables: Iterable[Table]) -> Mapping[Place, tuple[Place, ...]]:
    """Each column that a foreign key links with others, and all columns of its group in order.

    :param tables: of both databases; those of one name are one table.
    """
    graph: networkx.Graph[Place] = networkx.Graph()
    for table in tables:
        for key in table.foreign_keys:
            # The key may be declared on a partition; its columns are those of the table.
            for column, referenced in zip(key.columns, key.ref_columns, strict=True):
                graph.add_edge((table.ref, column), (key.references, referenced))
    groups = [tuple(sorted(group)) for group in networkx.connected_components(graph)]
    return {place: group for group in sorted(groups) for place in group}


def referencing(tables: Iterable[Table]) -> frozenset[Place]:
    """The columns of foreign keys that no foreign key refers to."""
    children: set[Place] = set()
    parents: set[Place] = set()
    for table in tables:
        for key in table.foreign_keys:
            children.update((table.ref, column) for column in key.columns)
            parents.update((key.references, column) for column in key.ref_columns)
    return frozenset(children - parents)
