"""The parts in which a table's rows are compared and recorded: its chunks, or the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from confiture.capture.apply import Followed
from confiture.compare import parts, suspects
from confiture.compare.checksum import Hashing, Sum
from confiture.compare.parts import Look
from confiture.copy import bad_text, large_row
from confiture.copy.run_table import RunTable
from confiture.journal import catch_up, chunks
from confiture.journal.model import Difference, Unit
from confiture.postgres.session import Session
from confiture.runner.context import Context

Compared = tuple[Unit, list[Difference]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a table that are compared together, by the number under which they are recorded.

    :ivar compare: compares them in a session on the source and one on the target. Its last argument is called before
        each further statement of a part that takes several; it may wait, and raises to stop.
    """

    number: int
    compare: Callable[[Session, Session, Callable[[], None]], Compared]


def parts_of(
    context: Context,
    job: RunTable,
    hashing: Hashing,
    look: Look,
    compared: Callable[[int], None] = lambda rows: None,
) -> Iterator[Part]:
    """A table's parts: its chunks where both servers order the key alike, otherwise the whole table.

    :param compared: called with a number of rows whenever they are compared, also within a part.
    """

    def of(number: int, compare: Callable[[parts.Sides, T], parts.Compared], among: T) -> Part:
        def run(source: Session, target: Session, between: Callable[[], None]) -> Compared:
            sides = parts.Sides(source, target, job, hashing, look, compared, between)
            return _recorded(job, number, _named(sides, compare, among))

        return Part(number, run)

    with context.target.transaction(read_only=True) as tx:
        planned = chunks.of_table(tx, context.run_id, job.table.number)
    if not job.table.ordered:
        yield of(0, parts.compare_whole, parts.joined(planned))
        return
    for chunk in planned:
        yield of(chunk.number, parts.compare_range, chunk.range)


def _named(sides: parts.Sides, compare: Callable[[parts.Sides, T], parts.Compared], among: T) -> parts.Compared:
    with bad_text.naming(sides.source, sides.target, sides.job), large_row.naming(sides.source, sides.job):
        return compare(sides, among)


def classified(
    context: Context,
    job: RunTable,
    hashing: Hashing,
    followed: Followed,
    found: Sequence[Difference],
    catch_up_pass: Callable[[], object],
) -> tuple[Difference, ...]:
    """The suspects that are confirmed to differ; rows that change each time are left to the cutover.

    :param catch_up_pass: runs a pass that begins now.
    """
    keys = list(dict.fromkeys(d.key_values for d in found))
    verdict = suspects.classify(context.source, context.target, job, hashing, followed, keys, catch_up_pass)
    # Durable: the hot keys, which are compared again before the cutover.
    with context.fenced("verify.hot_keys") as tx:
        catch_up.add_changed_keys(tx, context.run_id, job.table.number, [list(k) for k in verdict.hot])
    return verdict.confirmed


def _recorded(job: RunTable, number: int, found: parts.Compared) -> Compared:
    return _unit(job, number, found.source, found.target), found.found


def _unit(job: RunTable, number: int, x: Sum, y: Sum) -> Unit:
    hashes = {"source": [x.first, x.second], "target": [y.first, y.second]}
    return Unit("rows", str(job.table.target), number, x.rows, y.rows, hashes, x == y)
