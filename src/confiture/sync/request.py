"""The options of a sync, and how those of a later command are compared with them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from confiture.types import Json

#: The mask file of a project, which is used if no other one is named.
MASK_FILE = "db/sync/mask.yaml"


@dataclass(frozen=True, slots=True)
class Request:
    """The options that decide which rows a sync copies, and how they are masked.

    :ivar tables: names of tables; empty for all tables.
    :ivar where: each of the form ``TABLE=CONDITION``.
    :ivar sample: percent of the rows of each table without a condition; None for all rows.
    :ivar mask: the contents of the mask file; empty if there is none.
    :ivar mask_file: its name; empty if there is none.
    :ivar allowed: columns that may be copied as they are though they look personal, each ``TABLE.COLUMN``.
    :ivar consistent: whether every row is read in one snapshot.
    """

    tables: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    sample: float | None = None
    mask: str = ""
    mask_file: str = ""
    allowed: tuple[str, ...] = ()
    consistent: bool = False

    def as_json(self) -> Json:
        """The form stored with the run."""
        return {
            "tables": sorted(self.tables),
            "where": sorted(self.where),
            "sample": self.sample,
            "mask": self.mask,
            "mask_file": self.mask_file,
            "allowed": sorted(self.allowed),
            "consistent": self.consistent,
        }

    def differences(self, stored: Json) -> Iterator[str]:
        """The options in which this request differs from the one that a run has stored, each as a sentence part."""
        now = self.as_json()
        for name, option in _OPTIONS.items():
            was = stored.get(name)
            if was == now[name]:
                continue
            if name == "mask":
                yield "the mask file has another content"
            else:
                yield f"{option} was {_shown(was)}, and is {_shown(now[name])}"


_OPTIONS = {
    "tables": "--tables",
    "where": "--where",
    "sample": "--sample",
    "mask": "--mask",
    "allowed": "--allow-unmasked",
    "consistent": "--consistent",
}


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "not given"
    if isinstance(value, bool):
        return "given" if value else "not given"
    return "not given" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
