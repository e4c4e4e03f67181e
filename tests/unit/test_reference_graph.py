"""The order of foreign keys, for any graph of tables."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from confiture.sync.reference_graph import Edge, components
from confiture.types import TableRef

TABLES = [TableRef("public", name) for name in "abcdefg"]


def reached(edges: set[Edge], start: TableRef) -> set[TableRef]:
    """The tables that ``start`` refers to, directly or through others."""
    found: set[TableRef] = set()
    while more := {p for c, p in edges if c in found | {start}} - found:
        found |= more
    return found


@settings(deadline=None)
@given(st.sets(st.tuples(st.sampled_from(TABLES), st.sampled_from(TABLES))))
def test_components_are_the_cycles_and_come_before_what_they_refer_to(edges: set[Edge]) -> None:
    found = components(TABLES, edges)
    assert sorted(table for members in found for table in members) == TABLES
    place = {table: n for n, members in enumerate(found) for table in members}
    assert all(place[child] <= place[parent] for child, parent in edges)
    for one in TABLES:
        for other in TABLES:
            mutual = other in reached(edges, one) and one in reached(edges, other)
            assert (place[one] == place[other]) == (mutual or one == other)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TABLES), st.sampled_from(TABLES))), st.randoms())
def test_the_order_does_not_depend_on_the_order_of_the_keys(edges: list[Edge], random: object) -> None:
    shuffled = list(edges)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert components(TABLES, edges) == components(reversed(TABLES), shuffled)
