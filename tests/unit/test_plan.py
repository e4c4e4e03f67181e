"""The plan, a pure function of two catalogs and a mapping: properties of every plan for any databases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from confiture import catalog as c
from confiture.mapping import ColumnMapping, Mapping, Name, Position, TableMapping
from confiture.plan.conversions import conversion_problem, image_problem, key_problem
from confiture.plan.model import KeyColumn, Options, Plan, SequencePlan, plan_from_json
from confiture.plan.planner import Planner
from confiture.schema_to_schema.preconditions import capture
from confiture.types import TableRef, quoted

AT = Position(1, 1)
IDENTITY = c.Identity(
    system_identifier="1",
    database="old",
    oid=1,
    version=180000,
    encoding="UTF8",
    collate="C",
    ctype="C",
    locale_provider="c",
    locale=None,
    in_recovery=False,
    fsync=True,
    large_objects=0,
    superuser=False,
    bypasses_row_security=False,
    role="mover",
    may_create=True,
    may_temp=True,
)


@dataclass(frozen=True)
class Type:
    """The type of a column.

    :ivar walks: whether a column of this type may be part of a walk key.
    """

    formatted: str
    base: str
    schema: str = "pg_catalog"
    kind: str = "b"
    typmod: int = -1
    collation: str | None = None
    deterministic: bool = True
    walks: bool = True


TYPES = {
    "int": Type("integer", "int4"),
    "big": Type("bigint", "int8"),
    "text": Type("text", "text"),
    "uuid": Type("uuid", "uuid"),
    "mood": Type('app."Mood"', "Mood", schema="app", kind="e"),
    "money": Type("numeric(10,2)", "numeric", typmod=(10 << 16 | 2) + 4),
    "number": Type("numeric", "numeric", walks=False),
    "float": Type("double precision", "float8", walks=False),
    "citext": Type("citext", "citext", schema="public", walks=False),
    "loose": Type("text", "text", collation="loose", deterministic=False, walks=False),
    "json": Type("jsonb", "jsonb", walks=False),
}
#: The types above, and types that are used only as images of keys.
IMAGES = TYPES | {
    "small": Type("smallint", "int2"),
    "varchar": Type("character varying(20)", "varchar", typmod=24),
    "char": Type("character(5)", "bpchar", typmod=9),
    "bpchar": Type("bpchar", "bpchar", walks=False),
    "name": Type("name", "name"),
    "byte": Type('"char"', "char"),
    "bool": Type("boolean", "bool"),
    "cents": Type("numeric(12,4)", "numeric", typmod=(12 << 16 | 4) + 4),
    "whole": Type("numeric(10,0)", "numeric", typmod=(10 << 16) + 4),
    "tens": Type("numeric(3,-1)", "numeric", typmod=(3 << 16 | 2047) + 4),
    "date": Type("date", "date"),
    "timestamp": Type("timestamp without time zone", "timestamp"),
    "seconds": Type("timestamp(0) without time zone", "timestamp", typmod=0),
    "feel": Type('app."Feel"', "Feel", schema="app", kind="e"),
    "cidr": Type("cidr", "cidr"),
    "inet": Type("inet", "inet"),
}


def column(name: str, kind: str, **changed: object) -> c.Column:
    type_ = IMAGES[kind]
    made = c.Column(
        name=name,
        formatted=type_.formatted,
        type_kind=type_.kind,
        base_formatted=type_.formatted,
        base_name=type_.base,
        base_schema=type_.schema,
        base_kind=type_.kind,
        base_builtin=type_.schema == "pg_catalog",
        typmod=type_.typmod,
        not_null=True,
        null_free=bool(changed.get("not_null", True)),
        has_default=False,
        identity="",
        generated="",
        collation=type_.collation,
        deterministic=type_.deterministic,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def index(table: TableRef, name: str, columns: Sequence[str], **changed: object) -> c.Index:
    made = c.Index(
        table=table,
        level=0,
        parent=None,
        tree=1,
        name=name,
        definition="",
        is_unique=True,
        is_primary=False,
        immediate=True,
        valid=True,
        partial=False,
        expressions=False,
        marked=False,
        btree=True,
        own_equality=True,
        columns=tuple(columns),
        constraint_name=None,
        constraint_definition=None,
        constraint_comment=None,
        comment=None,
        options=(),
        tablespace=None,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def table(ref: TableRef, columns: Sequence[c.Column], indexes: Sequence[c.Index] = (), **changed: object) -> c.Table:
    made = c.Table(
        oid=1,
        ref=ref,
        kind="r",
        row_security=False,
        forces_row_security=False,
        tuples=100,
        bytes=10_000,
        inherited_from=False,
        inherits=False,
        may_select=True,
        may_use_schema=True,
        may_create_in_schema=True,
        owner_uses_schema=True,
        may_lock=True,
        owned=True,
        owner="owner",
        columns=tuple(columns),
        indexes=tuple(indexes),
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def sequence(name: str, owner: tuple[TableRef, str] | None = None, **changed: object) -> c.Sequence:
    made = c.Sequence(
        ref=TableRef("app", name),
        increment=1,
        minimum=1,
        maximum=2**63 - 1,
        last=None,
        owner=owner,
        fills=(),
        may_select=True,
        may_update=True,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def database(tables: Sequence[c.Table], sequences: Sequence[c.Sequence] = ()) -> c.Catalog:
    return c.Catalog(IDENTITY, tuple(tables), tuple(sequences), ())


# Any two databases ---------------------------------------------------------------------------------

TABLES = ("a", "b", "B c", "d")
COLUMNS = ("id", "n", "V w", "x", "y")

names_of_columns = st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True)
flags = st.sampled_from([False, False, False, False, True])


@st.composite
def columns(draw: st.DrawFn, name: str) -> c.Column:
    generated = "s" if draw(flags) else ""
    return column(
        name,
        draw(st.sampled_from(sorted(TYPES))),
        not_null=draw(st.booleans()),
        has_default=not generated and draw(flags),
        identity="" if generated else draw(st.sampled_from(["", "", "", "a", "d"])),
        generated=generated,
    )


@st.composite
def indexes(draw: st.DrawFn, ref: TableRef, names: Sequence[str]) -> tuple[c.Index, ...]:
    found = []
    for n in range(draw(st.integers(0, 3))):
        over = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
        flaws = {"is_unique": False, "immediate": False, "valid": False, "partial": True, "expressions": True}
        flaw = draw(st.sampled_from(["", "", "", *flaws]))
        found.append(index(ref, f"i{n}", over, is_primary=n == 0, **({flaw: flaws[flaw]} if flaw else {})))
    return tuple(found)


@st.composite
def tables(draw: st.DrawFn, name: str) -> c.Table:
    ref = TableRef("app", name)
    names = draw(names_of_columns)
    flaw = draw(st.sampled_from(["", "", "", "", "", "", "may_select", "may_lock", "owned", "may_use_schema"]))
    return table(
        ref,
        [draw(columns(n)) for n in names],
        draw(indexes(ref, names)),
        kind=draw(st.sampled_from(["r", "r", "r", "r", "p", "f"])),
        row_security=draw(flags),
        tuples=draw(st.sampled_from([-1, 0, 100, 20_000_000])),
        **({flaw: False} if flaw else {}),
    )


@st.composite
def sound(draw: st.DrawFn, name: str) -> c.Table:
    """A typical table: readable, with a primary key of one or two columns."""
    made = draw(tables(name))
    key = [column(n, draw(st.sampled_from(sorted(TYPES)))) for n in draw(st.sampled_from([("k",), ("k", "l")]))]
    rest = tuple(replace(col, generated="", not_null=True, null_free=True, has_default=True) for col in made.columns)
    primary = index(made.ref, "pk", [col.name for col in key], is_primary=True)
    return table(made.ref, (*key, *rest), (primary, *made.indexes), tuples=made.tuples)


@st.composite
def catalogs(draw: st.DrawFn, each: Callable[[str], st.SearchStrategy[c.Table]] = tables) -> c.Catalog:
    names = draw(st.lists(st.sampled_from(TABLES), min_size=1, unique=True))
    made = [draw(each(name)) for name in sorted(names)]
    owners = [(t.ref, col.name) for t in made for col in t.columns if col.identity]
    sequences = [
        sequence(f"s{n}", owner, increment=draw(st.sampled_from([1, -1])), may_select=each is sound or not draw(flags))
        for n, owner in enumerate(owners)
    ]
    return database(made, sequences)


@st.composite
def grown(draw: st.DrawFn, source: c.Catalog) -> c.Catalog:
    """A target that is derived from the source, so that most of it fits."""
    made = []
    for old in source.tables:
        kept = [replace(col, not_null=col.not_null and draw(st.booleans())) for col in old.columns]
        if draw(flags):
            kept.append(column("added", "int", not_null=draw(st.booleans()), has_default=draw(st.booleans())))
        made.append(replace(old, columns=tuple(kept), kind="r", owned=True))
    return database(made, source.sequences)


@st.composite
def entries(draw: st.DrawFn, target: c.Catalog, source: c.Catalog, name: str) -> TableMapping:
    known = [col.name for t in (*source.tables, *target.tables) for col in t.columns if t.ref.name == name] or ["x"]
    items = []
    for filled in draw(st.lists(st.sampled_from(known), max_size=2, unique=True)):
        short = draw(st.booleans())
        transform = None if short else draw(st.sampled_from([None, "1", "upper(x)"]))
        origin = draw(st.sampled_from(known)) if short or transform is None else None
        items.append(ColumnMapping(filled, origin, transform, draw(st.sampled_from([None, "x"])), short, AT))
    return TableMapping(
        target=Name(None, name, AT),
        source=draw(st.none() | st.sampled_from(TABLES).map(lambda n: Name("app", n, AT))),
        where=draw(st.sampled_from([None, None, "x > 1"])),
        key=draw(st.sampled_from([None, None, None, ("id",), ("n", "id")])),
        strategy=draw(st.sampled_from([None, "copy", "fdw", "auto"])),
        omit=tuple((n, AT) for n in draw(st.lists(st.sampled_from(known), max_size=1))),
        columns=tuple(items),
        at=AT,
    )


@dataclass(frozen=True)
class PlanInput:
    """Everything from which a plan is computed."""

    source: c.Catalog
    target: c.Catalog
    mapping: Mapping
    options: Options

    def planned(self) -> tuple[Plan, Planner]:
        planner = Planner(self.source, self.target, self.mapping, {}, self.options)
        return planner.plan(), planner


#: Enough examples to generate every kind of table several times.
few_examples = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@st.composite
def plan_inputs(draw: st.DrawFn) -> PlanInput:
    """Any databases with any mapping. Most of their plans are refused."""
    source = draw(catalogs())
    target = draw(st.one_of(grown(source), grown(source), catalogs()))
    mapped = draw(st.lists(st.sampled_from(TABLES), max_size=2, unique=True))
    omit = draw(st.lists(st.sampled_from(TABLES), max_size=1))
    mapping = Mapping(
        tables=tuple(draw(entries(target, source, name)) for name in mapped),
        omit=tuple(Name("app", name, AT) for name in omit),
    )
    return PlanInput(source, target, mapping, Options(strategy=draw(st.sampled_from([None, "copy"]))))


@st.composite
def sound_inputs(draw: st.DrawFn) -> PlanInput:
    """Databases that fit each other, and a mapping that renames. Most of their plans are accepted."""
    source = draw(catalogs(sound))
    made, mapped = [], []
    for old in draw(grown(source)).tables:
        name = draw(st.sampled_from([old.ref.name, f"new {old.ref.name}"]))
        new = {col.name: draw(st.sampled_from([col.name, f"new_{col.name}"])) for col in old.columns}
        made.append(
            replace(
                old,
                ref=TableRef("app", name),
                columns=tuple(replace(col, name=new[col.name], has_default=True) for col in old.columns),
                indexes=(),
            )
        )
        renamed = [ColumnMapping(b, a, None, None, True, AT) for a, b in new.items() if a != b and old.column(a)]
        renamed = [item for item in renamed if item.source != "added"]
        if renamed or name != old.ref.name or draw(st.booleans()):
            origin = Name("app", old.ref.name, AT) if name != old.ref.name else None
            mapped.append(TableMapping(Name("app", name, AT), origin, None, None, None, (), tuple(renamed), AT))
    left = draw(st.lists(st.sampled_from(made), max_size=1)) if len(made) > 1 else []
    omitted = [t for t in left if t.ref in source.by_ref and all(e.target.name != t.ref.name for e in mapped)]
    mapping = Mapping(tables=tuple(mapped), omit=tuple(Name("app", t.ref.name, AT) for t in omitted))
    return PlanInput(source, database(made), mapping, Options(strategy=draw(st.sampled_from([None, "copy"]))))


any_inputs = st.one_of(plan_inputs(), sound_inputs())


def findings(planner: Planner) -> list[str]:
    """All faults and refusals of the plan, sorted."""
    return sorted([*map(str, planner.faults), *planner.refusals])


@few_examples
@given(any_inputs)
def test_the_same_databases_and_mapping_give_the_same_plan(inputs: PlanInput) -> None:
    plan, planner = inputs.planned()
    again, planner_again = inputs.planned()
    assert (plan, plan.hash, findings(planner)) == (again, again.hash, findings(planner_again))
    event(
        f"accepted: {not findings(planner)}, tables: {len(plan.tables)}, keys: {sum(bool(t.key) for t in plan.tables)}"
    )


@few_examples
@given(any_inputs)
def test_a_plan_read_from_the_journal_equals_the_stored_plan(inputs: PlanInput) -> None:
    plan, _ = inputs.planned()
    back = plan_from_json(plan.as_json())
    assert (back, back.hash) == (plan, plan.hash)


@few_examples
@given(any_inputs, st.integers(-1, 10**12), st.integers(0, 2**50))
def test_the_estimated_number_of_rows_does_not_change_the_hash(inputs: PlanInput, tuples: int, size: int) -> None:
    """The strategy depends on the estimate, so the strategy is requested here."""
    inputs = replace(inputs, options=Options(strategy="copy", capture=False))
    mapping = replace(inputs.mapping, tables=tuple(replace(e, strategy=None) for e in inputs.mapping.tables))
    inputs = replace(inputs, mapping=mapping)
    later = replace(
        inputs,
        source=replace(
            inputs.source, tables=tuple(replace(t, tuples=tuples, bytes=size) for t in inputs.source.tables)
        ),
    )
    assert later.planned()[0].hash == inputs.planned()[0].hash


@few_examples
@given(sound_inputs())
def test_another_table_column_or_key_changes_the_hash(inputs: PlanInput) -> None:
    plan, _ = inputs.planned()
    assume(plan.tables)
    first = plan.tables[0]
    others = [
        replace(first, target=TableRef("app", "other")),
        replace(first, source=TableRef("app", "other")),
        replace(first, where="another"),
        replace(first, columns=first.columns[1:]),
        replace(first, key=(*first.key, KeyColumn("k", "text", "k", "text"))),
    ]
    hashes = {replace(plan, tables=(other, *plan.tables[1:])).hash for other in others if other != first}
    assert plan.hash not in hashes


@few_examples
@given(any_inputs)
def test_the_order_of_the_mappings_entries_does_not_matter(inputs: PlanInput) -> None:
    turned = replace(
        inputs.mapping,
        tables=tuple(replace(e, columns=e.columns[::-1], omit=e.omit[::-1]) for e in inputs.mapping.tables[::-1]),
        omit=inputs.mapping.omit[::-1],
    )
    plan, planner = inputs.planned()
    other, planner_of_other = replace(inputs, mapping=turned).planned()
    assert other == plan
    assert findings(planner_of_other) == findings(planner)


@few_examples
@given(any_inputs)
def test_every_column_of_a_planned_table_has_a_value_or_a_default(inputs: PlanInput) -> None:
    plan, _ = inputs.planned()
    for planned in plan.tables:
        filled = {p.target for p in planned.columns}
        for col in inputs.target.by_ref[planned.target].columns:
            assert col.name in filled or not col.not_null or col.has_default or col.identity or col.generated
            assert not (col.generated and col.name in filled)


@few_examples
@given(sound_inputs())
def test_every_column_and_table_of_the_source_is_mapped_or_omitted(inputs: PlanInput) -> None:
    plan, planner = inputs.planned()
    assume(not findings(planner))
    sources = {t.source for t in plan.tables}
    omitted = {name.name for name in inputs.mapping.omit}
    assert all(t.ref in sources or t.ref.name in omitted for t in inputs.source.tables)
    left = {(e.source.name if e.source else e.target.name, name) for e in inputs.mapping.tables for name, _ in e.omit}
    for source in sources:
        read = {name for t in plan.tables if t.source == source for p in t.columns for name in p.reads}
        for col in inputs.source.by_ref[source].columns:
            assert col.name in read or (source.name, col.name) in left or col.generated


@few_examples
@given(sound_inputs())
def test_a_table_that_the_mapping_does_not_name_is_matched_by_name(inputs: PlanInput) -> None:
    plan, planner = inputs.planned()
    assume(not findings(planner))
    mapped = {entry.target.name for entry in inputs.mapping.tables}
    omitted = {name.name for name in inputs.mapping.omit}
    by_target = {t.target: t for t in plan.tables}
    for ref in inputs.target.by_ref:
        if ref.name in mapped:
            continue
        there = ref in inputs.source.by_ref and ref.name not in omitted
        assert (ref in by_target) == there
        if there:
            assert by_target[ref].source == ref
            assert all(p.source == p.target for p in by_target[ref].columns)


@few_examples
@given(sound_inputs())
def test_a_column_is_copied_unchanged_only_if_nothing_is_lost(inputs: PlanInput) -> None:
    plan, _ = inputs.planned()
    for planned in plan.tables:
        source, target = inputs.source.by_ref[planned.source], inputs.target.by_ref[planned.target]
        for p in planned.columns:
            if p.source is not None:
                a, b = source.column(p.source), target.column(p.target)
                assert a is not None
                assert b is not None
                assert conversion_problem(a, b) is None


@few_examples
@given(sound_inputs())
def test_a_key_is_a_complete_unique_index_of_walkable_columns(inputs: PlanInput) -> None:
    plan, _ = inputs.planned()
    for planned in plan.tables:
        source = inputs.source.by_ref[planned.source]
        walked = tuple(k.source for k in planned.key)
        usable = {i.columns for i in source.indexes if i.is_key}
        assert walked in usable or not walked
        for name in walked:
            col = source.column(name)
            assert col is not None
            assert key_problem(col) is None
            assert col.not_null
            kind = next(t for t in TYPES.values() if (t.formatted, t.collation) == (col.formatted, col.collation))
            assert kind.walks
            image = inputs.target.by_ref[planned.target].column({k.source: k.target for k in planned.key}[name])
            assert image is not None
            assert image_problem(col, image) is None
        # The image of a key column is filled only from this column.
        images = {p.target: p.source for p in planned.columns}
        assert all(images[k.target] == k.source for k in planned.key)


@few_examples
@given(any_inputs)
def test_every_fault_and_refusal_of_a_plan_names_its_object(inputs: PlanInput) -> None:
    _, planner = inputs.planned()
    refs = [str(t.ref) for t in (*inputs.source.tables, *inputs.target.tables)]
    names = [quoted(n) for n in (*TABLES, *COLUMNS, "k", "l", "added", "app")]
    known = [*refs, *(str(s.ref) for s in inputs.source.sequences), *names]
    for refusal in planner.refusals:
        assert any(name in refusal for name in known), refusal
    for fault in planner.faults:
        assert any(name in fault.message for name in known) or "expression" in fault.message, fault
        assert fault.line >= 1


@few_examples
@given(any_inputs)
def test_tables_are_numbered_by_their_position_in_the_target(inputs: PlanInput) -> None:
    """A changed mapping must not assign the journal of one table to another."""
    plan, _ = inputs.planned()
    places = {t.ref: n for n, t in enumerate(inputs.target.tables, 1)}
    assert [t.number for t in plan.tables] == [places[t.target] for t in plan.tables]
    assert len({t.view for t in plan.tables}) == len(plan.tables)


# Splits --------------------------------------------------------------------------------------------


@st.composite
def splits(draw: st.DrawFn) -> PlanInput:
    """One source table, and two target tables that each map some of its columns."""
    ref = TableRef("app", "whole")
    kinds = {"id": "int", "code": "text", "v": "text"}
    old = table(
        ref,
        [column(n, kind) for n, kind in kinds.items()],
        draw(st.permutations([index(ref, "by_id", ["id"], is_primary=True), index(ref, "by_code", ["code"])])),
    )
    made, mapped = [], []
    for name in ("left", "right"):
        kept = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, unique=True))
        made.append(table(TableRef("app", name), [column(n, kinds[n]) for n in kept]))
        key = draw(st.sampled_from([None, None, ("id",), ("code",)]))
        source = Name("app", "whole", AT)
        mapped.append(TableMapping(Name("app", name, AT), source, None, key, None, (), (), AT))
    return PlanInput(database([old]), database(made), Mapping(tables=tuple(mapped)), Options())


@few_examples
@given(splits())
def test_a_captured_split_walks_one_key_or_is_refused_by_name(inputs: PlanInput) -> None:
    plan, planner = inputs.planned()
    assume(not findings(planner))
    keys = {tuple(k.source for k in t.key) for t in plan.tables}
    reasons = capture.reasons(plan, inputs.source)
    if len(keys) == 1 and () not in keys:
        assert reasons == []
    elif not all(t.recopied for t in plan.tables if not t.key):
        assert any("app.whole" in reason for reason in reasons)


@few_examples
@given(splits())
def test_a_column_that_no_target_of_a_split_maps_is_a_fault(inputs: PlanInput) -> None:
    _, planner = inputs.planned()
    taken = {col.name for t in inputs.target.tables for col in t.columns}
    for name in ("id", "code", "v"):
        missed = any(f"app.whole.{name} has no counterpart" in f.message for f in planner.faults)
        assert missed == (name not in taken)


# Refusals ------------------------------------------------------------------------------------------

REF = TableRef("app", "t")


def one(source: c.Table, target: c.Table | None = None, mapping: Mapping | None = None) -> Planner:
    planner = Planner(database([source]), database([target or source]), mapping or Mapping(), {}, Options())
    planner.plan()
    return planner


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"may_select": False}, "GRANT SELECT ON app.t TO mover"),
        ({"may_lock": False}, "GRANT MAINTAIN ON app.t TO mover"),
        ({"may_use_schema": False}, "GRANT USAGE ON SCHEMA app TO mover"),
        ({"kind": "f"}, "app.t is a foreign table"),
        ({"row_security": True, "owned": True}, "ALTER ROLE mover BYPASSRLS"),
    ],
)
def test_a_source_table_that_cannot_be_read_is_refused_with_a_fix(changed: dict[str, object], words: str) -> None:
    whole = table(REF, [column("id", "int")])
    planner = one(replace(whole, **changed), whole)  # type: ignore[arg-type]
    assert any(words in refusal for refusal in planner.refusals)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"owned": False}, "GRANT owner TO mover"),
        ({"kind": "f"}, "app.t is a foreign table"),
    ],
)
def test_a_target_table_that_cannot_be_filled_is_refused_with_a_fix(changed: dict[str, object], words: str) -> None:
    whole = table(REF, [column("id", "int")])
    planner = one(whole, replace(whole, **changed))  # type: ignore[arg-type]
    assert any(words in refusal for refusal in planner.refusals)


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"not_null": True}, True),
        ({"not_null": False}, False),
        ({"has_default": True}, False),
        ({"identity": "a"}, False),
        ({"generated": "s"}, False),
    ],
)
def test_a_column_without_a_value_or_a_default_is_a_fault(changed: dict[str, object], wanted: bool) -> None:
    old = table(REF, [column("id", "int")])
    new = table(REF, [column("id", "int"), column("new", "int", **changed)])
    faults = one(old, new).faults
    assert bool(faults) == wanted
    assert all("app.t" in f.message and "new" in f.message for f in faults)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_table_is_walked_by_keys_of_all_types_with_bytewise_equality(kind: str) -> None:
    whole = table(REF, [column("id", kind)], [index(REF, "pk", ["id"], is_primary=True)])
    planner = Planner(database([whole]), database([whole]), Mapping(), {}, Options())
    (planned,) = planner.plan().tables
    assert bool(planned.key) == TYPES[kind].walks
    assert planned.key or "id" in planned.key_reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"is_unique": False}, "no unique key"),
        ({"immediate": False}, "no unique key"),
        ({"valid": False}, "no unique key"),
        ({"partial": True}, "no unique key"),
        ({"expressions": True}, "no unique key"),
        ({"btree": False}, "no unique key"),
        ({"own_equality": False}, "index i has a collation or an operator class of its own"),
    ],
)
def test_a_table_is_not_walked_by_an_index_without_every_row(changed: dict[str, bool], reason: str) -> None:
    whole = table(REF, [column("id", "int")], [replace(index(REF, "i", ["id"]), **changed)])  # type: ignore[arg-type]
    planner = Planner(database([whole]), database([whole]), Mapping(), {}, Options())
    (planned,) = planner.plan().tables
    assert planned.key == ()
    assert reason in planned.key_reason


def test_a_table_is_not_walked_by_a_nullable_key() -> None:
    whole = table(REF, [column("id", "int", not_null=False)], [index(REF, "i", ["id"])])
    planner = Planner(database([whole]), database([whole]), Mapping(), {}, Options())
    (planned,) = planner.plan().tables
    assert (planned.key, planned.key_reason) == ((), "id may be NULL")


@pytest.mark.parametrize(
    "pair",
    [
        *("int int", "int big", "small big", "big int", "int money", "big whole", "whole big", "money cents"),
        *("text text", "varchar text", "text varchar", "name text", "char text", "char char", "int text", "uuid text"),
        *("mood text", "mood varchar", "mood feel", "text mood", "char mood", "bool text", "date text", "byte text"),
        *("money text", "timestamp text", "date timestamp", "seconds timestamp", "cidr inet", "uuid uuid"),
    ],
)
def test_an_image_that_keeps_different_keys_distinct_is_a_key(pair: str) -> None:
    old, new = pair.split()
    assert image_problem(column("k", old), column("k", new)) is None


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ("text loose", "nondeterministic collation loose"),
        ("text citext", "type citext"),
        ("int number", "numeric without a fixed scale"),
        ("money number", "numeric without a fixed scale"),
        ("int float", "type double precision"),
        ("text json", "type jsonb"),
        ("text bpchar", "trailing blanks"),
        ("bpchar bpchar", "trailing blanks"),
        *((pair, "may make different keys equal") for pair in (
            "text char", "varchar char", "text name", "varchar name", "char name", "text byte", "text int", "text uuid",
            "text date", "text bool", "int bool", "int tens", "cents money", "money int", "timestamp date",
            "timestamp seconds", "inet cidr", "int date", "uuid int", "int mood",
        )),
    ],
)  # fmt: skip
def test_an_image_that_may_make_different_keys_equal_is_not_a_key(pair: str, reason: str) -> None:
    old, new = pair.split()
    problem = image_problem(column("k", old), column("k", new))
    assert problem is not None
    assert reason in problem


def test_a_domain_is_treated_as_its_base_type() -> None:
    """This includes citext, whose own operator is hidden by the domain and by search_path."""
    hidden = {"formatted": "app.code", "type_kind": "d", "base_formatted": "public.citext"}
    assert image_problem(column("k", "text"), column("k", "citext", **hidden)) is not None
    assert key_problem(column("k", "citext", **hidden)) is not None
    assert image_problem(column("k", "text"), column("k", "text", formatted="app.code", type_kind="d")) is None


def test_a_table_is_keyless_if_no_image_of_its_key_is_a_key() -> None:
    old = table(REF, [column("id", "text")], [index(REF, "pk", ["id"], is_primary=True)])
    new = table(REF, [column("id", "loose")], [index(REF, "pk", ["id"], is_primary=True)])
    (planned,) = Planner(database([old]), database([new]), Mapping(), {}, Options()).plan().tables
    assert (planned.key, planned.arbiter, planned.recopied) == ((), None, True)
    assert "nondeterministic collation loose" in planned.key_reason


def test_a_requested_key_without_an_image_that_is_a_key_is_a_fault() -> None:
    old = table(REF, [column("id", "text")], [index(REF, "pk", ["id"], is_primary=True)])
    new = table(REF, [column("id", "loose")], [index(REF, "pk", ["id"], is_primary=True)])
    entry = TableMapping(Name("app", "t", AT), None, None, ("id",), None, (), (), AT)
    (fault,) = one(old, new, Mapping(tables=(entry,))).faults
    assert "nondeterministic collation loose" in fault.message


@pytest.mark.parametrize(
    "changed",
    [
        *({name: False} for name in ("is_unique", "immediate", "valid", "btree", "own_equality")),
        *({name: True} for name in ("partial", "expressions")),
    ],
)
def test_an_index_without_every_row_of_the_target_is_not_an_arbiter(changed: dict[str, object]) -> None:
    old = table(REF, [column("id", "text")], [index(REF, "pk", ["id"], is_primary=True)])
    for flaw, arbiter in (({}, "i"), (changed, None)):
        new = table(REF, [column("id", "text")], [index(REF, "i", ["id"], **flaw)])
        (planned,) = Planner(database([old]), database([new]), Mapping(), {}, Options()).plan().tables
        assert planned.arbiter == arbiter


def test_an_unvalidated_not_null_does_not_qualify_as_a_key() -> None:
    whole = table(REF, [column("id", "int", null_free=False)], [index(REF, "i", ["id"])])
    (planned,) = Planner(database([whole]), database([whole]), Mapping(), {}, Options()).plan().tables
    assert (planned.key, planned.key_reason) == ((), "id may be NULL")


# Sequences -----------------------------------------------------------------------------------------


def filling(name: str, *columns: str, plain: bool = True, **changed: object) -> c.Sequence:
    """A sequence that defaults use and no column owns."""
    return sequence(name, fills=tuple(c.Filled(REF, n, plain) for n in columns), **changed)


def continued(
    old: Sequence[c.Sequence], new: Sequence[c.Sequence], kind: str = "big"
) -> tuple[tuple[SequencePlan, ...], Planner]:
    whole = table(REF, [column("id", kind), column("n", kind, has_default=True)], [index(REF, "pk", ["id"])])
    planner = Planner(database([whole], old), database([whole], new), Mapping(), {}, Options())
    return planner.plan().sequences, planner


S, OTHER = TableRef("app", "s"), TableRef("app", "other")


@pytest.mark.parametrize(
    ("old", "new", "planned"),
    [
        # Found by a renamed default, by ownership, and by the default if the column owns another sequence.
        ([filling("old", "id")], [filling("s", "id")], SequencePlan(S, (TableRef("app", "old"),), ())),
        ([sequence("old", (REF, "id"))], [filling("s", "id")], SequencePlan(S, (TableRef("app", "old"),), ())),
        ([filling("old", "id")], [sequence("s", (REF, "id"))], SequencePlan(S, (TableRef("app", "old"),), ())),
        ([filling("other", "id"), sequence("s", (REF, "id"))], [filling("s", "id")], SequencePlan(S, (S, OTHER), ())),
        # A sequence that fills two columns continues after both.
        ([filling("s", "id"), filling("other", "n")], [filling("s", "id", "n")], SequencePlan(S, (S, OTHER), ())),
        ([filling("s", "id")], [filling("s", "id", "n")], SequencePlan(S, (S,), ((REF, "n"),))),
        # Without an origin: after the largest value, or after the sequence of the same name that the application calls.
        ([], [filling("s", "id")], SequencePlan(S, (), ((REF, "id"),))),
        ([filling("s", "n")], [filling("s", "id")], SequencePlan(S, (), ((REF, "id"),))),
        ([sequence("s")], [filling("s", "id")], SequencePlan(S, (S,), ())),
        ([sequence("s")], [filling("s", "id", plain=False)], SequencePlan(S, (S,), ())),
        # A sequence in a formula is not an origin, nor is one with an increment of the opposite sign.
        ([filling("s", "id", plain=False)], [filling("s", "id")], SequencePlan(S, (), ((REF, "id"),))),
        ([filling("s", "id", increment=-1)], [filling("s", "id")], SequencePlan(S, (), ((REF, "id"),))),
        ([filling("s", "id", plain=False)], [filling("s", "id", plain=False)], SequencePlan(S, (S,), ())),
    ],
)
def test_the_plan_finds_the_origin_of_a_sequence(
    old: list[c.Sequence], new: list[c.Sequence], planned: SequencePlan
) -> None:
    (found,), planner = continued(old, new)
    assert (found.target, set(found.sources), found.columns) == (planned.target, set(planned.sources), planned.columns)
    assert not planner.refusals


@pytest.mark.parametrize(("kind", "plain"), [("big", False), ("text", True)])
def test_a_sequence_without_an_origin_is_refused_with_a_fix(kind: str, plain: bool) -> None:
    _, planner = continued([], [filling("s", "id", plain=plain)], kind)
    (refusal,) = planner.refusals
    assert "app.t.id" in refusal
    assert "CREATE SEQUENCE app.s" in refusal


@pytest.mark.parametrize(
    ("last", "bounds", "bound"),
    [
        (12, {"maximum": 12}, None),
        (13, {"maximum": 12}, "MAXVALUE 12"),
        (2**31, {"maximum": 2**31 - 1}, "MAXVALUE 2147483647"),
        (-13, {"increment": -1, "minimum": -12, "maximum": -1}, "MINVALUE -12"),
        (5, {"minimum": 1000}, None),
    ],
)
def test_a_sequence_that_ends_before_its_origin_is_refused(
    last: int, bounds: dict[str, int], bound: str | None
) -> None:
    old = filling("old", "id", last=last, increment=bounds.get("increment", 1))
    _, planner = continued([old], [filling("s", "id", **bounds)])
    assert bool(planner.refusals) == (bound is not None)
    assert all(f"at {last}, past {bound} of app.s" in refusal for refusal in planner.refusals)


def test_a_column_is_not_narrowed_without_a_transform() -> None:
    old = table(REF, [column("id", "big")])
    (fault,) = one(old, table(REF, [column("id", "int")])).faults
    assert "app.t.id" in fault.message
    assert "id::integer" in fault.hint


def test_a_table_keeps_its_number_if_an_earlier_table_gets_no_rows() -> None:
    empty, kept = table(TableRef("app", "a"), [column("id", "int")]), table(TableRef("app", "b"), [column("id", "int")])
    planner = Planner(database([kept]), database([empty, kept]), Mapping(), {}, Options())
    (planned,) = planner.plan().tables
    assert planned.number == 2


@pytest.mark.parametrize(
    ("extensions", "captures", "named"),
    [
        (("pglogical", "citext"), True, ["pglogical"]),
        (("bdr", "pg_bulkload"), True, ["bdr, pg_bulkload"]),
        (("spock",), False, []),  # without capture, every row is compared under the lock
        (("citext",), True, []),
    ],
)
def test_extensions_that_write_without_firing_triggers_are_named(
    extensions: tuple[str, ...], captures: bool, named: list[str]
) -> None:
    empty = c.Catalog(IDENTITY, (), (), ())
    source = replace(empty, extensions=dict.fromkeys(extensions, "1.0"))
    notes = Planner(source, empty, Mapping(), {}, Options(capture=captures)).plan().notes
    found = [note for note in notes if "may fire no trigger" in note]
    assert [note.removeprefix("writes of ").partition(" on the source")[0] for note in found] == named


# COPY or FDW ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "large", "strategy", "reason"),
    [
        (Options(), 0, "copy", "COPY costs both servers less"),
        (Options(fdw_problem="no extension"), 0, "copy", "COPY costs both servers less"),
        (Options(near=False), 0, "fdw", "the rows do not pass through this machine"),
        (Options(near=False, fdw_problem="no extension"), 0, "copy", "no extension"),
        (Options(near=False), 2**30, "copy", "it has large values"),
        (Options(near=False, strategy="copy"), 0, "copy", "requested"),
        (Options(strategy="fdw"), 0, "fdw", "requested"),
    ],
)
def test_rows_do_not_travel_through_a_far_machine_unless_they_must(
    options: Options, large: int, strategy: str, reason: str
) -> None:
    made = [column("id", "big"), column("doc", "text")]
    found = database([table(TableRef("app", "a"), made, [index(TableRef("app", "a"), "i", ["id"])], tuples=1_000_000)])
    found = replace(found, tables=tuple(replace(t, large_bytes=large) for t in found.tables))
    planned = PlanInput(found, found, Mapping(), options).planned()[0].tables[0]
    assert planned.strategy == strategy
    assert planned.strategy_reason.startswith(reason)
