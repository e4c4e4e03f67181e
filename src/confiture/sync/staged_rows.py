"""Rows of the source on their way into a target table: staged in a temporary table, then inserted.

A staged row is newer than any row of the target that a unique index does not permit beside it: that one was copied
before the source changed it. It is removed, and staged again as it is in the snapshot that the staged rows are from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from confiture.catalog_model import Catalog
from confiture.copy.run_table import RunTable
from confiture.copy.stream import pipe
from confiture.errors import DataFailure
from confiture.plan.projection import raw, view_select
from confiture.postgres.connection import only_row
from confiture.postgres.session import Transaction
from confiture.sql import load, template
from confiture.sync.reference import Compared, Values, compared, matching
from confiture.sync.target_rows import printed, wanted
from confiture.types import TableRef

_SQL = "references.sql"


@dataclass
class Staging:
    """The staged rows of one pair of transactions. Nothing is committed here.

    :ivar source: a transaction on the source with one snapshot.
    :ivar catalog: of the source.
    :ivar identities: the filled columns that identify a row, by target table; no entry where there are none.
    :ivar excluded: the identities of rows that are never staged, by target table.
    """

    source: Transaction
    target: Transaction
    catalog: Catalog
    identities: Mapping[TableRef, Sequence[str]]
    excluded: Mapping[TableRef, Collection[Values]]
    _created: set[int] = field(default_factory=set)

    def rows(self, job: RunTable) -> sql.Identifier:
        """The temporary table of a table's staged rows."""
        return sql.Identifier("pg_temp", f"confiture_rows_{job.table.number}")

    def fetch(self, job: RunTable, columns: Sequence[Compared], values: Sequence[Values]) -> int:
        """Stage the rows of the source that have one of some values; their number.

        :param columns: that are compared with the values.
        """
        if job.table.number not in self._created:
            parts = {"staging": self.rows(job), "columns": job.columns, "target": job.target}
            self.target.pg.execute(template(_SQL, "staging").format(**parts))
            self._created.add(job.table.number)
        t, form = job.table, sql.SQL(job.table.format)
        select = view_select(t.source, t.only, (), t.columns, None)
        out = sql.SQL("COPY ({} WHERE {}) TO STDOUT (FORMAT {})").format(select, matching(columns, values), form)
        into = sql.SQL("COPY {} FROM STDIN (FORMAT {})").format(self.rows(job), form)
        return pipe(self.source.pg, self.target.pg, out, into) - self._exclude(job)

    def _exclude(self, job: RunTable) -> int:
        excluded = sorted(self.excluded.get(job.table.target, ()))
        if not excluded:
            return 0
        names = self.identities[job.table.target]
        query = template(_SQL, "exclude").format(
            staging=self.rows(job),
            identity=printed(names),
            wanted=sql.SQL("* FROM {}").format(wanted(excluded, len(names))),
        )
        return self.target.pg.execute(query).rowcount

    def fetch_again(self, job: RunTable, identities: Sequence[Values]) -> int:
        """Stage the rows of the source with these identities; the number of those that the source still has."""
        columns = [compared(job, self.catalog, name) for name in self.identities[job.table.target]]
        return self.fetch(job, columns, identities)

    def place(self, job: RunTable) -> int:
        """Insert the staged rows; their number.

        :raises DataFailure: when the target has no room for a row beside the others of the snapshot.
        """
        staged, placed = self._count(job), self._insert(job)
        if placed < staged:
            while displaced := self._displace(job):
                self.fetch_again(job, displaced)
            unplaced = self._count(job) - self._insert(job)
            if unplaced:
                raise DataFailure(
                    f"{unplaced:,} rows of {job.table.source} that others refer to do not fit into {job.table.target}",
                    why="a unique index or an exclusion constraint of the target does not permit them",
                    fix="give the target the same unique indexes as the source",
                )
        return staged

    def clear(self, job: RunTable) -> None:
        """Discard the staged rows of a table."""
        self.target.pg.execute(sql.SQL("TRUNCATE {}").format(self.rows(job)))

    def _count(self, job: RunTable) -> int:
        return int(only_row(self.target.pg.execute(sql.SQL("SELECT count(*) FROM {}").format(self.rows(job))))[0])

    def _insert(self, job: RunTable) -> int:
        parts = {"target": job.target, "columns": job.columns, "staging": self.rows(job)}
        return self.target.pg.execute(template(_SQL, "place").format(**parts)).rowcount

    def _displace(self, job: RunTable) -> list[Values]:
        """Remove the rows of the target that a unique index does not permit beside the staged ones.

        :returns: the identities of those that are not staged themselves.
        """
        identity = self.identities.get(job.table.target)
        if identity is None:
            return []
        name = job.target.as_string()
        removed: set[Values] = set()
        for expressions, condition in self.target.pg.execute(load(_SQL)["unique_indexes"], {"table": name}).fetchall():
            filled = [f"({e}) IS NOT NULL" for e in expressions] + ([condition] if condition else [])
            query = template(_SQL, "displaced").format(
                rows=job.target_rows,
                expressions=raw(", ".join(f"({e})" for e in expressions)),
                indexed=raw(" AND ".join(filled)),
                staging=self.rows(job),
                identity=printed(identity),
            )
            removed.update(self.target.pg.execute(query).fetchall())
        if not removed:
            return []
        query = template(_SQL, "not_staged").format(
            wanted=sql.SQL("* FROM {}").format(wanted(sorted(removed), len(identity))),
            identity=printed(identity),
            staging=self.rows(job),
        )
        return self.target.pg.execute(query).fetchall()
