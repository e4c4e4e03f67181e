"""The graph of foreign keys: tables that refer to each other in a cycle, and the order in which to follow keys. No I/O.

https://networkx.org/documentation/stable/reference/algorithms/component.html
"""

from __future__ import annotations

from collections.abc import Iterable

from confiture.types import TableRef

#: The table that refers, and the table that it refers to.
Edge = tuple[TableRef, TableRef]


def components(tables: Iterable[TableRef], edges: Iterable[Edge]) -> tuple[frozenset[TableRef], ...]:
    """The strongly connected components, each before those that its tables refer to.

    A component of several tables is a cycle of foreign keys, or several cycles that share tables. The order depends
    only on the names: tables that do not refer to each other are in the order of their names.

    :param edges: whose tables need not be in ``tables``; a table may refer to itself.
    """
    import networkx as nx  # here: most commands need no graph

    graph: nx.DiGraph[TableRef] = nx.DiGraph()
    graph.add_nodes_from(sorted(tables))
    graph.add_edges_from(sorted(edges))
    condensed = nx.condensation(graph)
    members: dict[int, frozenset[TableRef]] = {n: frozenset(found["members"]) for n, found in condensed.nodes.items()}
    order = nx.lexicographical_topological_sort(condensed, key=lambda node: min(members[node]))
    return tuple(members[node] for node in order)
