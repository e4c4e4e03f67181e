"""Several PgBouncers that are paused, redirected and resumed at the same time.

Each one in a thread of its own: PAUSE waits for the transactions of its pool, and a console that does not answer must
not keep the connections of the others waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from confiture.config import Database
from confiture.errors import CannotConnect, ConfitureError, CutoverUnfinished, Refused, UsageError
from confiture.pooler import Pool
from confiture.pooler.config_file import Address
from confiture.pooler.pgbouncer import PgBouncer


class PgBouncers:
    """The pools of a command, each of another PgBouncer.

    :param to: the database that they point to after :meth:`redirect`.
    :raises UsageError: when two of them are one pool of one PgBouncer.
    """

    def __init__(self, pools: Sequence[Pool], to: Address) -> None:
        self._each = tuple(PgBouncer(pool, to) for pool in pools)
        twice = next((name for name in self.names if self.names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"{twice} is named twice", why="each PgBouncer is paused once", fix="omit one of them")

    @property
    def names(self) -> tuple[str, ...]:
        """The names for messages and the journal."""
        return tuple(pooler.name for pooler in self._each)

    def close(self) -> None:
        """Close the consoles."""
        for pooler in self._each:
            pooler.close()

    def check(self) -> None:
        """Check every pool, one after the other, without changing anything.

        :raises Refused: naming the first one that cannot be paused or redirected.
        """
        for pooler in self._each:
            pooler.check()

    def lead_to(self, like: Database) -> list[Database]:
        """The database that each pool points to now, with the role and password of ``like``."""
        return [pooler.leads_to(like) for pooler in self._each]

    def pause(self, deadline: float) -> None:
        """PAUSE every pool; see :meth:`confiture.pooler.Pooler.pause`."""
        _raise_first(self._together(lambda pooler: pooler.pause(deadline)))

    def redirect(self) -> Mapping[str, ConfitureError]:
        """Rewrite, RELOAD and RESUME each; the errors by name."""

        def one(pooler: PgBouncer) -> None:
            pooler.repoint()
            pooler.resume()

        return self._together(one)

    def resume(self) -> None:
        """RESUME every pool that is paused."""
        _raise_first(self._together(PgBouncer.resume))

    def _together(self, act: Callable[[PgBouncer], None]) -> dict[str, ConfitureError]:
        """Act on all of them at the same time, and wait for all; the errors by name."""

        def attempt(pooler: PgBouncer) -> ConfitureError | None:
            try:
                act(pooler)
            except (Refused, CannotConnect, CutoverUnfinished) as error:
                return error
            return None

        with ThreadPoolExecutor(len(self._each), "pgbouncer") as threads:
            errors = list(threads.map(attempt, self._each))
        return {p.name: error for p, error in zip(self._each, errors, strict=True) if error is not None}


def _raise_first(errors: Mapping[str, ConfitureError]) -> None:
    for error in errors.values():
        raise error
