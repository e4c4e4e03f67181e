"""The values that the journal stores. No I/O: each module of this folder reads and writes the rows of its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from confiture.types import KeyOperator, TableRef

Json = dict[str, Any]


class TablePhase(StrEnum):
    """The phase of a table of the plan, in the order in which a table reaches them."""

    PLANNED = "planned"
    COPYING = "copying"
    COPIED = "copied"
    #: In reports only: copied, with an index or constraint that is not restored yet. The journal stores ``copied``.
    INDEXING = "indexing"
    FINISHED = "finished"


#: The phases in which the table's rows are in the target.
COPIED = (TablePhase.COPIED, TablePhase.FINISHED)


# Deferred objects ----------------------------------------------------------------------------------


class DeferredStatus(StrEnum):
    """The status of a deferred object: off, represented by its interim, or as declared."""

    OFF = "off"
    INTERIM = "interim"
    BACK = "back"


def _pair(value: TableRef | list[str]) -> TableRef:
    return value if isinstance(value, TableRef) else TableRef(*value)


#: A name that is stored as a list of the schema and the name.
_Pair = Annotated[TableRef, BeforeValidator(_pair), PlainSerializer(lambda ref: [ref.schema, ref.name])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """An object that is removed, disabled or relaxed during the run; each kind has its own class.

    :cvar kind: as the journal stores it.
    :ivar table: the table, partition or domain that it belongs to; empty for a publication.
    :ivar definition: the statement or definition that restores it as declared.
    """

    kind: ClassVar[str]

    table: TableRef
    name: str
    definition: str
    comment: str | None = None
    status: DeferredStatus = DeferredStatus.OFF


#: One kind of deferred object, or all of them.
AnyDeferred = TypeVar("AnyDeferred", bound=Deferred)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredIndex(Deferred):
    """An index.

    :ivar tablespace: None for the default one.
    :ivar level: the depth of its table below the root of the partitions.
    :ivar parent: the index that it is attached to; None at the root.
    """

    kind: ClassVar[str] = "index"

    tablespace: str | None = None
    level: int = 0
    parent: _Pair | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredConstraint(DeferredIndex):
    """A unique, primary key or exclusion constraint, with its index.

    :ivar options: the storage parameters of the index as ``name=value``.
    """

    kind: ClassVar[str] = "constraint"

    options: tuple[str, ...] = ()
    index_comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredForeignKey(Deferred):
    """A foreign key.

    :ivar interim: the definition that is in force until the cutover; None when the key stays as declared.
    :ivar interim_name: the name of the interim; that of the key itself where the key is altered.
    :ivar partitioned: whether the table is partitioned and its server rejects NOT VALID there.
    :ivar by_leaf: whether the declared key of a partitioned table is added to each leaf first.
    :ivar plain: whether the key has no action, so that its interim is the same key with another deferrability.
    :ivar validated: False when the key is declared NOT VALID.
    :ivar period: whether its last columns are periods.
    :ivar operators: of each pair of columns; None in the record of an older version.
    """

    kind: ClassVar[str] = "foreign_key"

    interim: str | None
    interim_name: str
    partitioned: bool
    by_leaf: bool = False
    plain: bool
    deferrable: bool
    deferred: bool
    validated: bool
    references: _Pair
    columns: tuple[str, ...]
    ref_columns: tuple[str, ...]
    period: bool = False
    operators: tuple[KeyOperator, ...] | None = None

    @property
    def standing(self) -> str:
        """The name of the constraint that is in place until the opening, by the status."""
        return self.interim_name if self.status is DeferredStatus.INTERIM else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredTrigger(Deferred):
    """A trigger; ``enabled`` is ``tgenabled`` as declared."""

    kind: ClassVar[str] = "trigger"

    enabled: str = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredRule(Deferred):
    """A rule; ``enabled`` is ``ev_enabled`` as declared."""

    kind: ClassVar[str] = "rule"

    enabled: str = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredCheck(Deferred):
    """A CHECK or NOT NULL constraint that is NOT VALID.

    :ivar level: the number of tables above its own; -1 when it is created and dropped with that of its parent.
    :ivar domain: whether it belongs to a domain.
    :ivar inherited: whether it is created and dropped with that of its parent.
    """

    kind: ClassVar[str] = "check"

    level: int = 0
    domain: bool = False
    inherited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredPublication(Deferred):
    """A publication; ``definition`` lists the operations that it publishes."""

    kind: ClassVar[str] = "publication"


#: Kinds that are off while Confiture writes, and that are restored in the commit that opens the database.
SUSPENDED = (DeferredTrigger, DeferredRule, DeferredCheck, DeferredPublication)

_KINDS: tuple[type[Deferred], ...] = (DeferredIndex, DeferredConstraint, DeferredForeignKey, *SUSPENDED)
_FORMS: dict[str, TypeAdapter[Deferred]] = {kind.kind: TypeAdapter(kind) for kind in _KINDS}
#: The values that each kind has; the others are its detail.
_COMMON = ("table", "name", "definition", "interim", "comment", "status")


def deferred_as_json(item: Deferred) -> Json:
    """The form that both databases store: ``kind``, the values that every kind has, and ``detail``."""
    values: Json = _FORMS[item.kind].dump_python(item, mode="json")
    common = {name: values.pop(name, None) for name in _COMMON}
    if values.get("interim_name") == item.name:
        del values["interim_name"]
    return {"kind": item.kind, **common, "detail": values}


def deferred_from_json(value: Mapping[str, Any]) -> Deferred:
    """The object from the form of :func:`deferred_as_json`."""
    own = {"interim_name": value["name"], **(value["detail"] or {})}
    return _FORMS[value["kind"]].validate_python({**value, **own})
