"""The forecast of a run: how long it takes, and how much disk, log and write pause it needs. No I/O.

Each number has its basis in words. The rates of this module were measured with ``benchmarks/forecast.py``; they stand
for what was neither sampled nor recorded by an earlier run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import ceil, log2
from typing import Annotated

from pydantic import TypeAdapter

from confiture.catalog_model import Index, Table
from confiture.plan.index_builds import IndexBuilds
from confiture.plan.model import Plan, TablePlan
from confiture.types import Count, Json, TableRef, counted

Seconds = Annotated[float, {"minimum": 0}]

# Rates ---------------------------------------------------------------------------------------------

#: Seconds to read a row on the source, and each of its bytes, where no sample was taken.
READ_ROW, READ_BYTE = 5e-7, 4e-9
#: Seconds to hash them.
HASH_ROW, HASH_BYTE = 5e-7, 2e-9
#: Seconds to write a row to the target, and each of its bytes.
WRITE_ROW, WRITE_BYTE = 5e-7, 4e-9
#: Seconds to compress a byte of a row that is stored apart, and more for each byte that is left of it.
COMPRESS_BYTE, STORE_BYTE = 4e-9, 25e-9
#: Bytes of a row above which its values are compressed or stored apart (TOAST).
TOAST_BYTES = 2000
#: Seconds for a row of an index, more where it has a text, and for each byte of the table that is scanned.
INDEX_ROW, INDEX_TEXT, SCAN_BYTE = 3e-7, 7e-7, 1e-9
#: Seconds for each table and each index, whatever its size.
TABLE_COPIED, TABLE_COMPARED, INDEX_BUILT = 0.025, 0.012, 0.004
#: Seconds for the whole of a migrate, and of a verification, whatever they do.
COPIED, COMPARED = 0.5, 0.4
#: The share by which each further process at the same time adds to the speed of the first.
GAIN = 0.7
#: The write pause in seconds: of any cutover, and more for each table and each sequence (docs/benchmarks.md).
PAUSE, PAUSE_TABLE, PAUSE_SEQUENCE = 0.06, 0.0005, 0.0005

# Sizes ---------------------------------------------------------------------------------------------

#: Bytes that PostgreSQL adds to a row, to each of its columns by alignment, and to an entry of an index; the share of a
#: page that a B-tree fills; bytes of a value that has no statistics.
ROW_BYTES, COLUMN_BYTES, ENTRY_BYTES, FILLED, UNKNOWN_WIDTH = 28, 1.5, 12, 0.88, 16
#: Bytes of a page, as nearly every server has them.
PAGE_BYTES = 8192
#: Bytes of an entry that shares its key with others (deduplication).
SHARED_BYTES = 6.5
#: Bytes of a row of the change log without its key.
LOG_ROW_BYTES = 48
_TEXTS = ("text", "character varying", "bpchar", "name", "citext")


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a source table that were read as the copy reads them, and hashed as the verification does.

    :ivar bytes: of the rows, as they are transferred.
    :ivar way: how they were chosen, in words.
    :ivar share: of the table that they were chosen from; None if it is not known.
    """

    rows: int
    bytes: int
    read_seconds: float
    hashed_rows: int
    hash_seconds: float
    way: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Width:
    """The statistics of a column.

    :ivar bytes: on average, without NULLs; ``null_share`` is their share.
    :ivar distinct: as in ``pg_stats.n_distinct``: a number of values, or if negative, their share of the rows.
    """

    bytes: float
    null_share: float
    distinct: float

    @property
    def stored(self) -> float:
        """Bytes on average, with NULLs."""
        return self.bytes * (1 - self.null_share)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The rates of earlier runs of the journal.

    :ivar copied: seconds for a row of each source table, in one stream.
    :ivar compared: seconds for a row of any table; None if none was verified.
    """

    copied: Mapping[TableRef, float] = field(default_factory=dict)
    compared: float | None = None


@dataclass(frozen=True, slots=True)
class Wal:
    """The settings of the target's server that decide how much WAL it keeps, in bytes.

    :ivar slot_keep: ``max_slot_wal_keep_size``; None if slots keep any amount.
    :ivar idle_slots: replication slots that no consumer reads.
    :ivar present: the size of its WAL now; None if the role cannot read it.
    """

    max_size: int
    keep: int
    slot_keep: int | None
    idle_slots: int
    archived: bool
    present: int | None


@dataclass(frozen=True, slots=True)
class Space:
    """An estimated amount of disk space."""

    bytes: Count
    basis: str


@dataclass(frozen=True, slots=True)
class Written:
    """The rows that the application has changed in the tables of the plan, and in how many seconds."""

    rows: int
    seconds: float
    basis: str


@dataclass(frozen=True, slots=True)
class Given:
    """The facts that a forecast is made from.

    :ivar widths: of the columns of each source table; none of a table that was never analyzed.
    :ivar streams: chunks that are copied at the same time; ``comparing`` the same of parts that are compared.
    :ivar shared: whether both servers run on this machine.
    :ivar rehearsed: the write pause of the last rehearsal in seconds; None without one.
    :ivar free: on the disk of the target's server; None if this is not known.
    :ivar wal_apart: whether its WAL is on another disk.
    :ivar not_sampled: why no table was sampled, in words; for a forecast without samples.
    """

    plan: Plan
    source: Mapping[TableRef, Table]
    target: Mapping[TableRef, Table]
    widths: Mapping[TableRef, Mapping[str, Width]]
    samples: Mapping[int, Sample]
    earlier: Earlier
    builds: IndexBuilds
    wal: Wal
    written: Written | None
    streams: int
    comparing: int
    shared: bool
    rehearsed: float | None
    free: Space | None
    wal_apart: bool
    not_sampled: str


# The forecast --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Duration:
    """An estimated time."""

    seconds: Seconds
    basis: str


@dataclass(frozen=True, slots=True)
class TableForecast:
    """The forecast of one table.

    :ivar bytes: of its rows in the target, with the large values.
    :ivar index_bytes: of all its indexes in the target.
    :ivar copy_seconds: in one stream.
    :ivar index_seconds: one index after the other.
    :ivar verification_seconds: on one side, in one stream.
    :ivar basis: of the seconds.
    """

    source: str
    target: str
    rows: Count
    bytes: Count
    index_bytes: Count
    copy_seconds: Seconds
    index_seconds: Seconds
    verification_seconds: Seconds
    basis: str


@dataclass(frozen=True, slots=True)
class DiskForecast:
    """The disk space that the target's server needs for the run.

    :ivar total: bytes for everything.
    :ivar sorting: temporary files of index builds.
    :ivar free: bytes that are free before the run begins; null where this is not known.
    :ivar missing: bytes of the total that are not free; 0 where this is not known. WAL on another disk is not counted.
    """

    total: Count
    rows: Space
    indexes: Space
    wal: Space
    sorting: Space
    free: Space | None
    missing: Count


@dataclass(frozen=True, slots=True)
class LogForecast:
    """The growth of the change log on the source, until changes are applied; null where it is not known."""

    rows_per_hour: float | None
    bytes_per_hour: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """The estimated needs of a run.

    :ivar seconds: until it is ready for its cutover.
    :ivar copy: until every row is copied; ``indexes`` and ``verification`` follow it.
    :ivar change_log: null for a run without capture.
    :ivar write_pause: of the cutover.
    """

    seconds: Seconds
    copy: Duration
    indexes: Duration
    verification: Duration
    target_disk: DiskForecast
    change_log: LogForecast | None
    write_pause: Duration
    tables: tuple[TableForecast, ...]


@cache
def _form() -> TypeAdapter[Forecast]:
    return TypeAdapter(Forecast)


def as_json(forecast: Forecast) -> Json:
    """The form that the journal stores and that ``plan`` prints."""
    return dict(_form().dump_python(forecast, mode="json"))


def from_json(value: Json) -> Forecast:
    """The forecast from the form of :func:`as_json`."""
    return _form().validate_python(value)


def make(given: Given, *, captured: bool) -> Forecast:
    """The forecast of a plan.

    :param captured: whether the application's writes are captured.
    """
    tables = tuple(_table(given, table) for table in given.plan.tables)
    copy, indexes, verification = _copy(given, tables), _indexes(given, tables), _verification(given, tables)
    return Forecast(
        seconds=round(copy.seconds + indexes.seconds + verification.seconds, 1),
        copy=copy,
        indexes=indexes,
        verification=verification,
        target_disk=_disk(given, tables),
        change_log=_log(given) if captured else None,
        write_pause=_pause(given, captured=captured),
        tables=tables,
    )


def gain(jobs: int) -> float:
    """How many times as fast as one process several are."""
    return 1 + GAIN * (max(1, jobs) - 1)


# Durations -----------------------------------------------------------------------------------------


def _table(given: Given, table: TablePlan) -> TableForecast:
    source = given.source[table.source]
    widths = given.widths.get(table.source, {})
    rows = _rows(given, table)
    # The size on the source is that of all its rows, also of those that are not copied.
    size = _row_bytes(table, source, widths, rows if table.where is None else table.estimate)
    indexes = [i for i in _indexes_of(given, table) if not i.partitioned]
    parts = max(1, len({i.table for i in indexes}))
    sample, known = given.samples.get(table.number), given.earlier.copied.get(table.source)
    read = sample.read_seconds / sample.rows if sample and sample.rows else READ_ROW + READ_BYTE * size
    moved = sample.bytes / sample.rows if sample and sample.rows else size
    basis = _sampled(sample) if sample else "usual rates"
    hashed = HASH_ROW + HASH_BYTE * size
    if sample and sample.hashed_rows:
        hashed = sample.hash_seconds / sample.hashed_rows
    copied = _overlapped(read, _write(moved, size))
    # A condition that selects no row is evaluated for each of them.
    scan = sample.read_seconds / sample.share if sample and sample.share and not sample.rows else 0.0
    if known is not None:
        copied, basis = known, "an earlier run of this journal"
    return TableForecast(
        source=str(table.source),
        target=str(table.target),
        rows=rows,
        bytes=_pages(rows * size),
        index_bytes=sum(_pages(index_bytes(i, rows / parts, _of_target(table, widths))) for i in indexes),
        copy_seconds=round(TABLE_COPIED + scan + rows * copied, 3),
        index_seconds=round(sum(_build(i, table, rows / parts, size, widths) for i in indexes), 3),
        verification_seconds=round(TABLE_COMPARED + scan + rows * hashed, 3),
        basis=basis,
    )


def _sampled(sample: Sample) -> str:
    return f"a sample of {counted(sample.rows, 'row')} {sample.way}"


def _write(moved: float, stored: float) -> float:
    """Seconds to write a row of ``moved`` bytes, of which ``stored`` are left when it is compressed."""
    seconds = WRITE_ROW + WRITE_BYTE * min(moved, stored)
    if moved > TOAST_BYTES:
        seconds += COMPRESS_BYTE * moved + STORE_BYTE * min(moved, stored)
    return seconds


def _overlapped(read: float, write: float) -> float:
    """Seconds of a row that one server reads while the other writes the row before it."""
    return max(read, write) + 0.5 * min(read, write)


def _copy(given: Given, tables: Sequence[TableForecast]) -> Duration:
    whole = sum(t.copy_seconds for t in tables)
    # A table without a key is one chunk.
    longest = max(
        (f.copy_seconds for f, t in zip(tables, given.plan.tables, strict=True) if not t.key),
        default=0.0,
    )
    speed = gain(given.streams)
    basis = f"{_bases(given, tables)}, {counted(given.streams, 'chunk')} at a time"
    return Duration(round(COPIED + max(whole / speed, longest), 1), basis)


def _bases(given: Given, tables: Sequence[TableForecast]) -> str:
    """The origin of the seconds of the tables are, by their share of the bytes."""
    whole = sum(t.bytes for t in tables) or 1
    known = [t for t, p in zip(tables, given.plan.tables, strict=True) if p.source in given.earlier.copied]
    sampled = [
        t for t, p in zip(tables, given.plan.tables, strict=True) if p.number in given.samples and t not in known
    ]
    parts = [
        f"{word} {len(those):,} of {counted(len(tables), 'table')} ({100 * sum(t.bytes for t in those) / whole:.0f} %"
        " of the bytes)"
        for word, those in (("earlier runs of", known), ("samples of", sampled))
        if those
    ]
    if not parts:
        return f"usual rates: {given.not_sampled}"
    return ", ".join(parts) + ("" if len(known) == len(tables) else " and usual rates")


def _build(index: Index, table: TablePlan, rows: float, size: float, widths: Mapping[str, Width]) -> float:
    """Seconds to build an index of ``rows`` rows."""
    types = {p.target: p.wire for p in table.columns}
    text = index.expressions or any(types.get(name, "").startswith(_TEXTS) for name in index.columns)
    row = INDEX_ROW + (INDEX_TEXT if text else 0.0) + SCAN_BYTE * min(size, TOAST_BYTES)
    more = max(1.0, 1 + log2(max(rows, 1) / 1e6) / 20)
    return INDEX_BUILT + rows * row * more


def _indexes(given: Given, tables: Sequence[TableForecast]) -> Duration:
    number = sum(len(_indexes_of(given, t)) for t in given.plan.tables)
    seconds = sum(t.index_seconds for t in tables) / gain(given.builds.jobs)
    return Duration(round(seconds, 1), f"usual rates: {number:,} indexes, {given.builds.jobs} at a time")


def _verification(given: Given, tables: Sequence[TableForecast]) -> Duration:
    if given.earlier.compared is not None:
        seconds = given.earlier.compared * sum(t.rows for t in tables)
        return Duration(round(seconds, 1), "earlier verifications of this journal, by the number of rows")
    # Both sides are read at the same time; on one machine they share its cores.
    sides = 2 if given.shared else 1
    whole = sum(t.verification_seconds for t in tables) * sides * 1.2 / gain(given.comparing)
    basis = f"{_bases(given, tables)}, {counted(given.comparing, 'part')} at a time"
    return Duration(round(COMPARED + whole, 1), basis)


# Disk ----------------------------------------------------------------------------------------------


def _rows(given: Given, table: TablePlan) -> int:
    """The rows of a table: of its sample, where the server has never counted them, or a condition selects some."""
    source, sample = given.source[table.source], given.samples.get(table.number)
    if sample is not None and sample.share is not None and (source.tuples < 0 or table.where is not None):
        return round(sample.rows / sample.share)
    if source.tuples >= 0 or sample is None:
        return table.estimate
    return int(source.total_bytes / (sample.bytes / sample.rows + ROW_BYTES))


def _row_bytes(table: TablePlan, source: Table, widths: Mapping[str, Width], rows: float) -> float:
    """Bytes of a row in the target, with its large values: from statistics, else as on the source."""
    rows = max(1, rows)
    if not widths or (source.kind == "p" and not any(w.bytes for w in widths.values())):
        return source.total_bytes / rows
    plain = ROW_BYTES + sum(COLUMN_BYTES + _width(p.source, p.reads, widths) for p in table.columns)
    return plain + source.large_bytes / rows


def _pages(size: float) -> int:
    """Bytes of the whole pages that an amount fills."""
    return ceil(size / PAGE_BYTES) * PAGE_BYTES


def _width(name: str | None, reads: Iterable[str], widths: Mapping[str, Width]) -> float:
    """Bytes of a column of the target: of the column that it is copied from, else of those that it is computed from."""
    if name is not None and name in widths:
        return widths[name].stored
    return sum(widths[n].stored for n in reads if n in widths) or UNKNOWN_WIDTH


def _of_target(table: TablePlan, widths: Mapping[str, Width]) -> dict[str, Width]:
    """The statistics by column of the target."""
    return {p.target: widths[p.source] for p in table.columns if p.source is not None and p.source in widths}


def _indexes_of(given: Given, table: TablePlan) -> tuple[Index, ...]:
    target = given.target.get(table.target)
    return () if target is None else (*target.indexes, *target.partition_indexes)


def index_bytes(index: Index, rows: float, widths: Mapping[str, Width]) -> float:
    """Bytes of an index over ``rows`` rows; more than a B-tree needs is not known of other kinds."""
    entry = sum(-(-(widths[c].stored if c in widths else UNKNOWN_WIDTH) // 8) * 8 for c in index.columns)
    entry += UNKNOWN_WIDTH if index.expressions else 0
    whole = rows * (ENTRY_BYTES + entry) / FILLED
    first = widths.get(index.columns[0]) if len(index.columns) == 1 else None
    if first is None or index.is_unique or not index.btree:
        return whole
    values = min(rows, first.distinct if first.distinct >= 0 else -first.distinct * rows)
    # PostgreSQL stores a value once for the rows that share it.
    return min(whole, (rows * SHARED_BYTES + values * (ENTRY_BYTES + entry)) / FILLED)


def _disk(given: Given, tables: Sequence[TableForecast]) -> DiskForecast:
    rows, indexes = sum(t.bytes for t in tables), sum(t.index_bytes for t in tables)
    unknown = [t for t in given.plan.tables if t.estimate and not given.widths.get(t.source)]
    of_source = f"; the size on the source of {counted(len(unknown), 'table')} without statistics" if unknown else ""
    statistics = "the statistics of the source's columns"
    wal, sorting = wal_space(given.wal, rows + indexes), _sorting(given)
    total = rows + indexes + wal.bytes + sorting.bytes
    there = total - wal.bytes if given.wal_apart else total
    return DiskForecast(
        total=total,
        rows=Space(rows, f"{statistics}{of_source}"),
        indexes=Space(indexes, f"{statistics}, for each index of the target"),
        wal=wal,
        sorting=sorting,
        free=given.free,
        missing=max(0, there - given.free.bytes) if given.free is not None else 0,
    )


def wal_space(wal: Wal, written: int) -> Space:
    """WAL that the run adds to what the server has."""
    if wal.idle_slots:
        kept = written if wal.slot_keep is None else min(written, wal.slot_keep)
        limit = "without max_slot_wal_keep_size" if wal.slot_keep is None else "up to max_slot_wal_keep_size"
        return Space(max(kept, wal.max_size), f"{counted(wal.idle_slots, 'unused replication slot')} keeps it, {limit}")
    most = min(max(wal.max_size, wal.keep), max(written, 0))
    name = "wal_keep_size" if wal.keep > wal.max_size else "max_wal_size"
    basis = name if wal.present is None else f"{name}, less the WAL that is there now"
    more = "; more if its archive is slow" if wal.archived else ""
    return Space(max(0, most - (wal.present or 0)), f"{basis}{more}")


def _sorting(given: Given) -> Space:
    """Temporary files of the largest index builds that run at the same time."""
    sizes = sorted(
        (
            index_bytes(i, _rows(given, t), _of_target(t, given.widths.get(t.source, {})))
            for t in given.plan.tables
            for i in _indexes_of(given, t)
            if not i.partitioned
        ),
        reverse=True,
    )
    spilled = [size for size in sizes[: given.builds.jobs] if size > given.builds.memory * 1024]
    basis = f"the largest {counted(given.builds.jobs, 'index build')} at a time"
    return Space(int(sum(spilled)), basis if spilled else "every index build fits into maintenance_work_mem")


# Change log and write pause ------------------------------------------------------------------------


def _log(given: Given) -> LogForecast:
    written = given.written
    if written is None or not written.seconds:
        return LogForecast(None, None, "it is not known since when the server's statistics count")
    rows = 3600 * written.rows / written.seconds
    widths = [
        sum(given.widths.get(t.source, {}).get(k.source, Width(8, 0, 0)).bytes for k in t.key)
        for t in given.plan.tables
        if t.key
    ]
    width = LOG_ROW_BYTES + (sum(widths) / len(widths) if widths else 8)
    return LogForecast(round(rows, 1), round(rows * width, 1), written.basis)


def _pause(given: Given, *, captured: bool) -> Duration:
    if given.rehearsed is not None:
        return Duration(round(given.rehearsed, 3), "the last rehearsal")
    tables, sequences = len(given.plan.tables), len(given.plan.sequences)
    again = sum(t.estimate_bytes for t in given.plan.tables if t.recopied) if captured else 0
    seconds = PAUSE + PAUSE_TABLE * tables + PAUSE_SEQUENCE * sequences + again * (READ_BYTE + WRITE_BYTE)
    basis = f"usual rates: {counted(tables, 'table')}, {counted(sequences, 'sequence')}"
    return Duration(round(seconds, 3), basis + (" and the tables that are copied again" if again else ""))
