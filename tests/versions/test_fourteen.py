"""Facts that the catalog of PostgreSQL 14 records in another way."""

from __future__ import annotations

from pathlib import Path

import pytest

from confiture.errors import Refused
from live import LiveRun
from servers import Databases

ITEM = "CREATE TABLE item (id int PRIMARY KEY, name text);"
FUNCTIONS = """
CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT lower(t) $$;
CREATE FUNCTION relying(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN plain(t); END $$;
CREATE DOMAIN short AS text CHECK (length(VALUE) < 50);
"""
#: An expression of a generated column that runs the function.
EXPRESSIONS = {
    "a call": "relying(name)",
    "an operator": "name <<< name",
    "a call within a call": "upper(relying(name || 'x'))",
}
OPERATOR = (
    "CREATE FUNCTION mixed(a text, b text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
    " $$ BEGIN RETURN plain(a) || b; END $$; CREATE OPERATOR <<< (FUNCTION = mixed, LEFTARG = text, RIGHTARG = text);"
)


def with_column(expression: str) -> str:
    return f"{FUNCTIONS} {OPERATOR} {ITEM} ALTER TABLE item ADD low short GENERATED ALWAYS AS ({expression}) STORED;"


@pytest.mark.parametrize("pair", [("14", "14"), ("18", "14")], ids="_to_".join, indirect=True)
@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_plan_names_a_generated_column_whose_function_relies_on_search_path(
    pair: tuple[Databases, Databases], tmp_path: Path, expression: str
) -> None:
    live = LiveRun(
        pair[0], tmp_path, f"{ITEM} INSERT INTO item VALUES (1, 'A')", with_column(expression), apart=pair[1]
    )
    with pytest.raises(Refused) as refused:
        live.plan()
    assert "SET search_path = public" in (refused.value.why or "")
    assert "generated column" in (refused.value.why or "")


@pytest.mark.parametrize("pair", [("14", "14")], ids="_to_".join, indirect=True)
def test_a_generated_column_of_built_in_functions_is_accepted(
    pair: tuple[Databases, Databases], tmp_path: Path
) -> None:
    live = LiveRun(pair[0], tmp_path, f"{ITEM} INSERT INTO item VALUES (1, 'A')", with_column("lower(name)"))
    live.through()
    assert live.target.rows("TABLE item") == [(1, "A", "a")]
