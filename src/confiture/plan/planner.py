"""The planner: builds a plan from two catalogs, a mapping and the facts about its expressions. No I/O.

Every object of the catalogs is either part of the plan or refused by name. All faults are reported together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from confiture import mapping as m
from confiture.catalog_model import Catalog, Column, Filled, Index, Table
from confiture.catalog_model import Sequence as CatalogSequence
from confiture.errors import Fault
from confiture.plan import large_objects, materialized_views, privileges
from confiture.plan.conversions import (
    NUMBERS,
    PORTABLE_ORDER,
    STRINGS,
    conversion_problem,
    image_problem,
    key_problem,
    order_family,
)
from confiture.plan.model import (
    TABLE_COLUMNS_MOST,
    AllFacts,
    Facts,
    KeyColumn,
    Options,
    Plan,
    SequencePlan,
    TablePlan,
)
from confiture.plan.projection import KEY_PREFIX, Projected, canon, is_binary, wire_type
from confiture.types import TableRef, did_you_mean, double_quoted, quoted

#: Of the first chunk of a table, whose speed is not known yet.
CHUNK_BYTES, CHUNK_ROWS_MOST, CHUNK_ROWS_LEAST = 32 * 2**20, 200_000, 10
FETCH_BYTES, FETCH_ROWS_MOST, FETCH_ROWS_LEAST = 4 * 2**20, 10_000, 1
#: Bytes of large values of a table that is copied by FDW: the target's server may have to hold them all, as text.
LARGE_BYTES_BY_FDW = 256 * 2**20
#: Extensions that write rows without firing triggers: loaders, and workers that apply changes from another server.
LOADERS = frozenset({"pg_bulkload", "pglogical", "spock", "bdr"})
IDENTIFIER_BYTES = 63


class Planner:
    """Builds the plan, and collects faults (at a position in the mapping) and refusals (about the databases).

    :ivar missing: those of the refusals that are missing privileges.
    """

    def __init__(self, source: Catalog, target: Catalog, mapping: m.Mapping, facts: AllFacts, options: Options) -> None:
        self.source = source
        self.target = target
        self.mapping = mapping
        self.facts = facts
        self.options = options
        self.faults: list[Fault] = []
        self.refusals: list[str] = []
        self.missing: list[str] = []
        self.notes: list[str] = []
        self.refreshed = materialized_views.refreshed(source, target)

    # Names -----------------------------------------------------------------------------------------

    def _fault(self, at: m.Position, message: str, hint: str = "") -> None:
        self.faults.append(Fault(self.mapping.file, at.line, at.column, message, hint))

    def find(self, catalog: Catalog, side: str, name: m.Name) -> Table | None:
        """The table of that name; a fault and None if there is none, or if there are several."""
        hits = [t for t in catalog.tables if t.ref.name == name.name and name.schema in (None, t.ref.schema)]
        if name.schema is None and len(hits) > 1:
            hits = [t for t in hits if t.ref.schema == "public"] or hits
        if len(hits) == 1:
            return hits[0]
        if hits:
            schemas = ", ".join(t.ref.schema for t in hits)
            self._fault(name.at, f"table {quoted(name.name)} is in several schemas of the {side}: {schemas}")
        else:
            hint = _did_you_mean(name.name, [t.ref.name for t in catalog.tables])
            self._fault(name.at, f"the {side} has no table {quoted(name.name)}", hint)
        return None

    # The whole -------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """The plan. It is valid only if :attr:`faults` and :attr:`refusals` are empty afterwards."""
        pairs = list(self._pairs())
        # A table's number is its position in the target, so that a changed mapping does not renumber other tables.
        places = {t.ref: n for n, t in enumerate(self.target.tables, 1)}
        tables = tuple(
            planned
            for source, target, entry in pairs
            if (planned := self._table(places[target.ref], source, target, entry)) is not None
        )
        self._unmapped_sources({source.ref for source, _, _ in pairs})
        self._database_wide()
        return Plan(
            tables=tables,
            sequences=tuple(self._sequences(tables)),
            materialized_views=self.refreshed,
            recode=self.source.identity.encoding != self.target.identity.encoding,
            notes=tuple(self.notes),
            large_objects=large_objects.planned(self.source, self.mapping.large_objects),
        )

    def _pairs(self) -> Iterator[tuple[Table, Table, m.TableMapping | None]]:
        entries: dict[TableRef, m.TableMapping] = {}
        for entry in self.mapping.tables:
            target = self.find(self.target, "target", entry.target)
            if target is not None and target.ref in entries:
                self._fault(entry.at, f"table {target.ref} is mapped twice")
            elif target is not None:
                entries[target.ref] = entry
        omitted = self._omitted_tables()
        for target in self.target.tables:
            found = entries.get(target.ref)
            source = self.source_of(target, found)
            if source is None or (found is None and source.ref in omitted):
                continue
            if target.kind == "f":
                self.refusals.append(f"{target.ref} is a foreign table in the target; a foreign table cannot be filled")
                continue
            if source.kind == "f":
                self.refusals.append(f"{source.ref} is a foreign table on the source: name it under $omit")
                continue
            yield source, target, found

    def source_of(self, target: Table, entry: m.TableMapping | None) -> Table | None:
        if entry is not None and entry.source is not None:
            return self.find(self.source, "source", entry.source)
        same = self.source.by_ref.get(target.ref)
        if same is None and entry is not None:
            named = [t for t in self.source.tables if t.ref.name == target.ref.name]
            if len(named) == 1:
                return named[0]
            hint = _did_you_mean(target.ref.name, [t.ref.name for t in self.source.tables])
            self._fault(entry.at, f"the source has no table {target.ref}: name its source table with $from", hint)
        elif same is None and target.kind != "f":
            self.notes.append(f"{target.ref} has no table on the source and stays empty")
        return same

    def _omitted_tables(self) -> set[TableRef]:
        found = (self.find(self.source, "source", name) for name in self.mapping.omit)
        return {t.ref for t in found if t is not None}

    def _unmapped_sources(self, used: set[TableRef]) -> None:
        omitted = self._omitted_tables_quietly()
        for table in self.source.tables:
            if table.ref in omitted and table.ref in used:
                self.notes.append(f"{table.ref} is named under $omit, but copied, as a mapping entry reads it")
            if table.ref in used or table.ref in omitted:
                continue
            self._fault(
                m.Position(1, 1),
                f"source table {table.ref} has no counterpart in the target",
                f"map it with $from, or omit it: $omit: [{_yaml(str(table.ref))}]",
            )

    def _omitted_tables_quietly(self) -> set[TableRef]:
        kept = list(self.faults)
        found = self._omitted_tables()
        self.faults = kept
        return found

    def _database_wide(self) -> None:
        chosen = self.mapping.large_objects
        self.refusals += large_objects.refusals(self.source, self.target, chosen, self.options)
        self._refuse_missing(large_objects.missing(self.source, self.target, chosen))
        self.notes += large_objects.notes(self.source, chosen, capture=self.options.capture)
        if self.source.identity.encoding == "SQL_ASCII" != self.target.identity.encoding:
            self.notes.append(
                "the source's encoding SQL_ASCII accepts any bytes: a row whose text is not valid UTF-8 stops the copy,"
                " with its key and column"
            )
        self._refuse_missing(privileges.of_target(self.target, self.refreshed))
        self.notes += materialized_views.notes(self.target, self.refreshed)
        self._event_triggers("source", self.source)
        self._event_triggers("target", self.target)
        self._extensions()
        loaders = sorted(set(self.source.extensions) & LOADERS) if self.options.capture else []
        if loaders:
            self.notes.append(
                f"writes of {', '.join(loaders)} on the source may fire no trigger: capture misses them, and only a"
                " verification detects them; use cutover --max-verification-age"
            )
        self.notes.append("comments, views, functions and privileges are those of the target's DDL")

    def _extensions(self) -> None:
        old, new = self.source.extensions, self.target.extensions
        missing = sorted(set(old) - set(new) - {"postgres_fdw"})
        if missing:
            self.notes.append(f"extensions of the source that the target lacks: {', '.join(missing)}")
        other = [f"{name} ({old[name]}, {new[name]})" for name in sorted(old) if new.get(name, old[name]) != old[name]]
        if other:
            self.notes.append(
                f"extensions with another version in the target than on the source: {', '.join(other)}; values of their"
                " types are transferred as text"
            )

    def _event_triggers(self, side: str, catalog: Catalog) -> None:
        """Refuse event triggers that fire for Confiture's DDL (a pass creates temporary tables) or for its logins."""
        for found in catalog.event_triggers:
            name = quoted(found.name)
            if found.event == "login" and side == "target":
                self.refusals.append(
                    f"event trigger {name} of the target fires for each login of confiture, while the target must not "
                    f"be written to: ALTER EVENT TRIGGER {name} DISABLE, and enable it after the cutover"
                )
            elif found.event != "login" and not catalog.identity.may_silence_events:
                self.refusals.append(
                    f"event trigger {name} of the {side} fires for confiture's own DDL: ALTER EVENT TRIGGER {name} "
                    "DISABLE, and enable it after cleanup; or, since PostgreSQL 17, GRANT SET ON PARAMETER "
                    f"event_triggers TO {quoted(catalog.identity.role)}"
                )

    # One table -------------------------------------------------------------------------------------

    def _table(self, number: int, source: Table, target: Table, entry: m.TableMapping | None) -> TablePlan | None:
        before = self._found_so_far()
        self._refuse_table(source, target)
        self._note_invalid_indexes(target)
        columns = self._columns(source, target, entry)
        where = entry.where if entry else None
        if where is not None and entry is not None:
            self._expression(source, where, "", entry.at, "$where")
        self._unread_columns(source, target, columns, entry)
        key, reason, index = self._key(source, target, columns, entry)
        if before != self._found_so_far():
            return None
        binary = all(p.binary for p in columns)
        planned = TablePlan(
            number=number,
            target=target.ref,
            source=source.ref,
            only=source.only,
            target_only=target.only,
            view=_view_name(number, target.ref),
            columns=columns,
            where=where,
            key=key,
            key_reason=reason,
            ordered=bool(key) and self._ordered(source, target, key),
            arbiter=_arbiter(target, key),
            strategy="copy",
            strategy_reason="",
            format="binary" if binary else "text",
            chunk_rows=self.options.chunk_rows or _fit(CHUNK_BYTES, source, CHUNK_ROWS_LEAST, CHUNK_ROWS_MOST),
            fetch_rows=_fit(FETCH_BYTES, source, FETCH_ROWS_LEAST, FETCH_ROWS_MOST),
            estimate=source.estimated_rows,
            estimate_bytes=source.total_bytes,
            rollback_problem=None,
            kept=_kept(target, columns),
            recopied=self.options.capture and not key and self._recopied(source, target),
        )
        problem = planned.key_problem_if_wide
        if problem is not None:
            self.refusals.append(f"{target.ref}: {problem}")
        strategy, why = self._strategy(source, planned, entry, index)
        return replace(planned, strategy=strategy, strategy_reason=why)

    def _found_so_far(self) -> tuple[int, int]:
        """Faults and refusals, without missing privileges: of such a table the sequences are looked at too."""
        return len(self.faults), len(self.refusals) - len(self.missing)

    def _recopied(self, source: Table, target: Table) -> bool:
        """Whether the cutover can copy a table without a key, and validate the foreign keys from and to it."""
        keys = [k for t in self.target.tables for k in t.foreign_keys if target.ref in (t.ref, k.references)]
        small = source.total_bytes <= self.options.recopy_mb * 2**20
        return small and target.kind != "p" and not any(k.partitioned for k in keys)

    def _refuse_table(self, source: Table, target: Table) -> None:
        refuse = self.refusals.append
        self._refuse_missing(privileges.of_source(source, self.source.identity, capture=self.options.capture))
        if any(c.name.startswith(KEY_PREFIX) for c in target.columns):
            refuse(f"{target.ref} has a column named {KEY_PREFIX}…, a prefix that confiture reserves")

    def _note_invalid_indexes(self, target: Table) -> None:
        for index in (*target.indexes, *target.partition_indexes):
            if not index.valid:
                self.notes.append(
                    f"index {quoted(index.name)} of {index.table} is not valid, as the target's DDL leaves it; no query"
                    " uses it until each partition has an index that is attached to it"
                )

    def _refuse_missing(self, reasons: Iterable[str]) -> None:
        for reason in reasons:
            self._refuse_once(reason)
            if reason not in self.missing:
                self.missing.append(reason)

    def _refuse_once(self, refusal: str) -> None:
        if refusal not in self.refusals:
            self.refusals.append(refusal)

    def _columns(self, source: Table, target: Table, entry: m.TableMapping | None) -> tuple[Projected, ...]:
        given = self._given(source, target, entry)
        projected = []
        for column in target.columns:
            item = given.get(column.name)
            if column.generated:
                if item is not None:
                    self._fault(
                        item.at,
                        f"column {quoted(column.name)} of {target.ref} is generated and cannot be given a value",
                    )
                continue
            made = self._column(source, target, column, item, entry)
            if made is not None:
                projected.append(made)
        return tuple(projected)

    def _given(self, source: Table, target: Table, entry: m.TableMapping | None) -> dict[str, m.ColumnMapping]:
        given: dict[str, m.ColumnMapping] = {}
        for item in entry.columns if entry else ():
            if target.column(item.target) is not None:
                given[item.target] = item
                continue
            names = [c.name for c in target.columns]
            if item.short and item.source is not None and target.column(item.source) and source.column(item.target):
                hint = f"did you mean `{quoted(item.target)}: {quoted(item.source)}`? The short form is source: target."
            else:
                hint = _did_you_mean(item.target, names)
            self._fault(item.at, f"{target.ref} has no column {quoted(item.target)}", hint)
        return given

    def _column(
        self, source: Table, target: Table, column: Column, item: m.ColumnMapping | None, entry: m.TableMapping | None
    ) -> Projected | None:
        wire, cast_in = wire_type(column)
        made = Projected(column.name, "", None, wire, cast_in, canon(column), is_binary(column))
        if item is not None and item.transform is not None:
            reads = self._expression(source, item.transform, wire, item.at, f"column {quoted(column.name)}")
            if item.source is not None and source.column(item.source) is None:
                self._no_source_column(source, item.source, item.at)
            named = (item.source,) if item.source is not None else ()
            all_read = tuple(dict.fromkeys((*named, *reads)))
            reverse_column = self._reverse_column(item, all_read)
            return replace(
                made, expression=item.transform, reads=all_read, reverse=item.reverse, reverse_column=reverse_column
            )
        name = item.source if item is not None and item.source is not None else column.name
        origin = source.column(name)
        at = item.at if item is not None else entry.at if entry is not None else m.Position(1, 1)
        if origin is None:
            if item is not None:
                self._no_source_column(source, name, at)
            elif column.not_null and not column.has_default and not column.identity:
                self._fault(
                    at, f"{target.ref}: column {quoted(column.name)} is NOT NULL, has no default and gets no value"
                )
            return None
        problem = conversion_problem(origin, column)
        if problem:
            composed = f"ROW(({quoted(name)}).attribute, ...), with the attributes in the target's order"
            converted = _yaml(f"{quoted(name)}::{column.formatted}")
            hint = f"convert it with transform: {converted if column.attributes is None else composed}"
            self._fault(at, f"{target.ref}.{quoted(column.name)}: {problem}", hint)
        return replace(made, expression=_column_sql(source, name), source=name, reads=(name,))

    def _reverse_column(self, item: m.ColumnMapping, reads: tuple[str, ...]) -> str | None:
        """The source column that gets its value from ``reverse:``."""
        if item.reverse is None:
            return None
        if item.source is None and len(reads) != 1:
            name = quoted(item.target)
            self._fault(item.at, f"column {name}: `reverse:` sets one source column: name it with source_column")
        return item.source or next(iter(reads), None)

    def _no_source_column(self, source: Table, name: str, at: m.Position) -> None:
        hint = _did_you_mean(name, [c.name for c in source.columns])
        self._fault(at, f"{source.ref} has no column {quoted(name)}", hint)

    def _expression(self, source: Table, text: str, wire: str, at: m.Position, what: str) -> tuple[str, ...]:
        facts = self.facts.get((source.ref, text, wire), Facts())
        if facts.problem is not None:
            self._fault(at, f"{what}: {facts.problem}", facts.hint)
        return facts.reads

    def _unread_columns(
        self, source: Table, target: Table, columns: Sequence[Projected], entry: m.TableMapping | None
    ) -> None:
        read = {name for p in columns for name in p.reads}
        # A column that is generated on both sides is not copied.
        read |= {c.name for c in target.columns if c.generated and (same := source.column(c.name)) and same.generated}
        read |= self._read_by_others(source, entry)
        omitted = {name for name, _ in entry.omit} if entry else set()
        at = entry.at if entry else m.Position(1, 1)
        for name, place in entry.omit if entry else ():
            if source.column(name) is None:
                self._no_source_column(source, name, place)
        for column in source.columns:
            if column.name not in read | omitted:
                self._fault(
                    at,
                    f"source column {source.ref}.{quoted(column.name)} has no counterpart",
                    f"map it, or omit it: $omit: [{_yaml(quoted(column.name))}]",
                )

    def _read_by_others(self, source: Table, entry: m.TableMapping | None) -> set[str]:
        """The columns that other target tables read from the same source table."""
        read: set[str] = set()
        for other in self.mapping.tables:
            if other is entry or entry is None:
                continue
            kept = self.find_quietly(other.target)
            if kept is None or self._reads_quietly(kept, other) != source.ref:
                continue
            named = {item.target for item in other.columns}
            for item in other.columns:
                read |= {item.source} if item.source is not None else set()
                for (ref, text, _), facts in self.facts.items():
                    if ref == source.ref and text == item.transform:
                        read |= set(facts.reads)
            read |= {name for name, _ in other.omit}
            read |= {c.name for c in kept.columns if c.name not in named}
        return read

    def _reads_quietly(self, target: Table, entry: m.TableMapping) -> TableRef | None:
        """The table that an entry reads, without a fault or a note."""
        kept = list(self.faults), list(self.notes)
        found = self.source_of(target, entry)
        self.faults, self.notes = kept
        return found.ref if found is not None else None

    def find_quietly(self, name: m.Name) -> Table | None:
        """Like :meth:`find` in the target, without a fault."""
        kept = list(self.faults)
        found = self.find(self.target, "target", name)
        self.faults = kept
        return found

    # Keys ------------------------------------------------------------------------------------------

    def _key(
        self, source: Table, target: Table, columns: Sequence[Projected], entry: m.TableMapping | None
    ) -> tuple[tuple[KeyColumn, ...], str, Index | None]:
        candidates = [i for i in source.indexes if i.is_whole and i.columns]
        if entry is not None and entry.key is not None:
            candidates = [i for i in candidates if set(i.columns) == set(entry.key)]
            if not candidates:
                names = ", ".join(map(quoted, entry.key))
                self._fault(entry.at, f"$key ({names}) of {source.ref} is not covered by a unique index")
                return (), "", None
        why = "the source table has no unique key"
        for index in candidates:
            key, problem = self._image(source, target, columns, index)
            if problem is None:
                return key, f"{'primary key' if index.is_primary else 'unique index'} {quoted(index.name)}", index
            why = problem
        if entry is not None and entry.key is not None:
            self._fault(entry.at, f"$key cannot be used as a key: {why}")
        return (), why, None

    def _image(
        self, source: Table, target: Table, columns: Sequence[Projected], index: Index
    ) -> tuple[tuple[KeyColumn, ...], str | None]:
        images = {p.source: p.target for p in columns if p.source is not None}
        key = []
        for name in index.columns:
            column = source.known_column(name)
            problem = key_problem(column)
            if problem is not None:
                return (), f"{quoted(name)} {problem}"
            if name not in images:
                return (), f"key column {quoted(name)} is not mapped by a plain rename"
            image = target.known_column(images[name])
            problem = image_problem(column, image)
            if problem is not None:
                return (), f"{quoted(name)} {problem}"
            key.append(KeyColumn(name, column.base_formatted, image.name, image.base_formatted))
        if not index.own_equality:
            return (), f"unique index {quoted(index.name)} has a collation or an operator class of its own"
        return tuple(key), None

    def _ordered(self, source: Table, target: Table, key: Sequence[KeyColumn]) -> bool:
        def bytewise(catalog: Catalog, column: Column) -> bool:
            default = catalog.identity.collate if catalog.identity.locale_provider == "c" else ""
            return (column.collation or default) in ("C", "POSIX")

        for part in key:
            a, b = source.known_column(part.source), target.known_column(part.target)
            if a.base_name in PORTABLE_ORDER and order_family(a) == order_family(b):
                continue
            if a.base_name in STRINGS and b.base_name in STRINGS - {"bpchar"} and a.base_name != "bpchar":
                if bytewise(self.source, a) and bytewise(self.target, b):
                    continue
            return False
        return True

    # Strategy --------------------------------------------------------------------------------------

    def _strategy(
        self, source: Table, planned: TablePlan, entry: m.TableMapping | None, index: Index | None
    ) -> tuple[str, str]:
        asked = self.options.strategy if self.options.strategy not in (None, "auto") else None
        if entry is not None and entry.strategy not in (None, "auto"):
            asked = entry.strategy
        problem = self._fdw_problem(source, planned)
        if asked == "copy":
            return "copy", "requested"
        if asked == "fdw":
            if problem is not None:
                self.refusals.append(f"{planned.target}: strategy fdw was requested, but {problem}")
            return "fdw", "requested"
        agreed = self.options.agreed.get(planned.target)
        if agreed == "copy" or (agreed == "fdw" and problem is None):
            return agreed, "as in the given plan"
        if self.options.near:
            return "copy", "COPY costs both servers less, and this machine is near one of them"
        if problem is not None:
            return "copy", problem
        if source.large_bytes > LARGE_BYTES_BY_FDW:
            return "copy", "it has large values, which postgres_fdw transfers as text and holds in memory"
        return "fdw", "the rows do not pass through this machine, which is far from both servers"

    def _fdw_problem(self, source: Table, planned: TablePlan) -> str | None:
        if self.options.fdw_problem is not None:
            return self.options.fdw_problem
        if planned.is_wide:
            return f"a foreign table has at most {TABLE_COLUMNS_MOST} columns"
        for part in planned.key:
            column = source.known_column(part.source)
            if column.type_kind != "b" or not column.base_builtin:
                return f"key column {quoted(part.source)} has a type that postgres_fdw does not ship"
            if column.collation is not None:
                return f"key column {quoted(part.source)} has a collation of its own, which postgres_fdw does not ship"
        return None

    # Sequences -------------------------------------------------------------------------------------

    def _sequences(self, tables: Sequence[TablePlan]) -> Iterator[SequencePlan]:
        by_target = {t.target: t for t in tables}
        by_name = {s.ref: s for s in self.source.sequences}
        feeding = [(f, s) for s in self.source.sequences for f in s.columns]
        for sequence in self.target.sequences:
            filled = [f for f in sequence.columns if f.table in by_target]
            if sequence.owner is not None and not filled:
                continue  # its table remains empty
            origins: list[CatalogSequence] = []
            rest: list[Filled] = []
            for column in filled:
                planned = by_target[column.table]
                mapped = next((p.source for p in planned.columns if p.target == column.column and p.source), None)
                # A column with the plain value cannot continue a sequence that the source uses in an expression.
                found = [
                    s
                    for f, s in feeding
                    if (f.table, f.column) == (planned.source, mapped) and (f.plain or not column.plain)
                ]
                origins += found
                rest += [] if found else [column]
            same = by_name.get(sequence.ref)
            unclear = len(numbered(self.target, rest)) < len(rest)
            if same is not None and not (filled and same.columns) and (unclear or not origins):
                origins, rest = [*origins, same], numbered(self.target, rest) if origins else []
            if filled and any(_runs_apart(s, sequence) for s in origins):
                origins, rest = [], filled  # continuing from there, it would generate values that are in use
            yield from self._sequence(sequence, list(dict.fromkeys(origins)), rest)

    def _sequence(
        self, sequence: CatalogSequence, origins: Sequence[CatalogSequence], columns: Sequence[Filled]
    ) -> Iterator[SequencePlan]:
        usable = numbered(self.target, columns)
        if sequence.fills and len(usable) < len(columns):
            self._refuse_unplaced(sequence, next(c for c in columns if c not in usable))
        elif not origins and not usable:
            self.notes.append(f"sequence {sequence.ref} has no counterpart on the source and keeps its value")
        for origin in origins:
            self._refuse_origin(sequence, origin)
        if origins or usable:
            refs = tuple(dict.fromkeys((c.table, c.column) for c in usable))
            yield SequencePlan(sequence.ref, tuple(s.ref for s in origins), refs)

    def _refuse_unplaced(self, sequence: CatalogSequence, column: Filled) -> None:
        self._refuse_once(
            f"sequence {sequence.ref} of the target fills {column.table}.{quoted(column.column)}, but the"
            " value to continue from is unknown: no sequence of the source fills that column, and the column's values"
            " are not those of the sequence; run on the source:"
            f" CREATE SEQUENCE {sequence.ref} START WITH (the first free value)"
        )

    def _refuse_origin(self, sequence: CatalogSequence, origin: CatalogSequence) -> None:
        self._refuse_missing(privileges.of_sequence(origin, self.source, capture=self.options.capture))
        if origin.last is not None and is_past(origin.last, sequence.increment, sequence.minimum, sequence.maximum):
            bound = f"MAXVALUE {sequence.maximum}" if sequence.increment > 0 else f"MINVALUE {sequence.minimum}"
            self._refuse_once(
                f"sequence {origin.ref} of the source is at {origin.last}, past {bound} of {sequence.ref} in the"
                " target: give the latter wider bounds (or AS bigint) in the target's DDL"
            )


def _runs_apart(a: CatalogSequence, b: CatalogSequence) -> bool:
    return (a.increment > 0) != (b.increment > 0)


def is_past(value: int, increment: int, minimum: int, maximum: int) -> bool:
    """Whether a sequence with these bounds ends before ``value``, so that it cannot continue there."""
    return value > maximum if increment > 0 else value < minimum


def numbered(catalog: Catalog, columns: Sequence[Filled]) -> list[Filled]:
    """Those of the columns whose largest value shows the last value of their sequence."""

    def shows(item: Filled) -> bool:
        column = catalog.by_ref[item.table].column(item.column)
        return item.plain and column is not None and column.base_builtin and column.base_name in NUMBERS

    return [c for c in columns if shows(c)]


def _arbiter(target: Table, key: Sequence[KeyColumn]) -> str | None:
    image = {k.target for k in key}
    for index in target.indexes:
        if key and index.is_key and set(index.columns) == image:
            return index.name
    return None


def _kept(target: Table, columns: Sequence[Projected]) -> tuple[str, ...]:
    filled = {p.target for p in columns}
    return tuple(c.name for c in target.columns if c.name not in filled and not c.generated)


def _fit(budget: int, source: Table, least: int, most: int) -> int:
    return max(least, min(most, budget // source.row_bytes))


def _view_name(number: int, target: TableRef) -> str:
    name = f"t{number:04d}_{target.name}".encode()[:IDENTIFIER_BYTES]
    return name.decode(errors="ignore")


def _column_sql(source: Table, name: str) -> str:
    return f"{double_quoted(source.ref.name)}.{double_quoted(name)}"


def _yaml(text: str) -> str:
    """``text`` as a YAML scalar, quoted if YAML would otherwise interpret it."""
    return f"'{text}'" if any(c in text for c in "\"':{}[],&*#?|-<>=!%@\\ ") else text


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known, lambda close: _yaml(quoted(close)))
