"""Parts of safe sequences that several rules share, as steps with the user's own names. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from confiture.lint.model import Step
from confiture.lint.nodes import object_name
from confiture.types import quoted

#: Pages of 8 KiB that one transaction of a backfill reads: few enough for locks of some milliseconds.
BATCH_PAGES = 100


def backfill(table: str, assignment: str, condition: str) -> Step:
    """Change the rows of a table in batches of pages, each of which commits.

    :param table: as SQL.
    :param assignment: after SET.
    :param condition: of the rows that are not changed yet; a changed row must not satisfy it. It has to hold for
        types without an operator ``=`` too, such as json.
    """
    return _batches(table, f"UPDATE {table} SET {assignment}", condition)


def delete(table: str) -> Step:
    """Delete the rows of a table in batches of pages, each of which commits."""
    return _batches(table, f"DELETE FROM {table}", "")


def _batches(table: str, statement: str, condition: str) -> Step:
    """Pass over the table until a pass changes nothing: a row that the application updates may move to other pages.

    A pass that changes as many rows as the one before changes the same rows without an effect, and is the last.
    """
    literal = table.replace("'", "''")
    more = f"\n        AND ({condition})" if condition else ""
    return Step(
        f"""DO $$
DECLARE
  batch_page bigint; batch_pages bigint; batch_changed bigint; batch_total bigint; batch_before bigint;
BEGIN
  LOOP
    batch_page := 0; batch_total := 0;
    batch_pages := greatest(pg_relation_size('{literal}'),
      (SELECT max(pg_relation_size(relid)) FROM pg_partition_tree('{literal}')))
      / current_setting('block_size')::bigint;
    WHILE batch_page <= batch_pages LOOP
      {statement}
        WHERE ctid >= format('(%s,0)', batch_page)::tid
        AND ctid < format('(%s,0)', batch_page + {BATCH_PAGES})::tid{more};
      GET DIAGNOSTICS batch_changed = ROW_COUNT;
      batch_total := batch_total + batch_changed; batch_page := batch_page + {BATCH_PAGES};
      COMMIT;
    END LOOP;
    EXIT WHEN batch_total = 0 OR batch_total >= batch_before;
    batch_before := batch_total;
  END LOOP;
END $$;""",
        transactional=False,
    )


def not_null(table: str, name: str, columns: list[str], *, version: int | None = None) -> list[Step]:
    """Declare columns NOT NULL without a scan under ACCESS EXCLUSIVE.

    :param table: as SQL.
    :param name: of the table, for the names of constraints.
    :param version: of the server, as ``server_version_num``; None if it is not known.
    """
    constraints = {column: quoted(object_name(name, column, "not_null")) for column in columns}
    if version is not None and version >= 180_000:
        return [
            _each(
                f"ALTER TABLE {table} ADD CONSTRAINT {n} NOT NULL {quoted(c)} NOT VALID;"
                for c, n in constraints.items()
            ),
            _each(f"ALTER TABLE {table} VALIDATE CONSTRAINT {n};" for n in constraints.values()),
        ]
    return [
        _each(
            f"ALTER TABLE {table} ADD CONSTRAINT {n} CHECK ({quoted(c)} IS NOT NULL) NOT VALID;"
            for c, n in constraints.items()
        ),
        _each(f"ALTER TABLE {table} VALIDATE CONSTRAINT {n};" for n in constraints.values()),
        _each(
            f"ALTER TABLE {table} ALTER COLUMN {quoted(c)} SET NOT NULL, DROP CONSTRAINT {n};"
            for c, n in constraints.items()
        ),
    ]


def _each(statements: Iterable[str]) -> Step:
    return Step("\n".join(statements))


def kept_in_step(table: str, name: str, column: str, value: str) -> str:
    """A trigger that sets a column of each row that is inserted or updated.

    :param value: an expression of ``new``.
    """
    function = quoted(object_name(name, column, "fill"))
    return (
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$\n"
        f"BEGIN\n  NEW.{quoted(column)} := {value};\n  RETURN NEW;\nEND $$;\n"
        f"CREATE TRIGGER {function} BEFORE INSERT OR UPDATE ON {table}\n"
        f"  FOR EACH ROW EXECUTE FUNCTION {function}();"
    )
