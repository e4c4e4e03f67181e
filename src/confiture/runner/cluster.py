"""The workers of a Dask cluster: worker processes on other hosts, which open sessions on both databases from there.

Dask starts the tasks; which of them are done is in the journal. A task whose worker ended is given to another worker,
by Dask itself or by the runner. The connection parameters of both databases, the passwords included, are sent to the
workers, so that the scheduler has to be reached by TLS where the network is not trusted.
https://distributed.dask.org/en/stable/client.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

from distributed import Client
from distributed.scheduler import KilledWorker

from confiture import __version__
from confiture.config import redact
from confiture.errors import CannotConnect, Refused
from confiture.runner import worker
from confiture.runner.context import Context
from confiture.runner.worker import Outcome
from confiture.runner.workers import DEPTH

T = TypeVar("T")

#: Seconds for the scheduler to answer, and for a worker to reach both databases.
ANSWER_SECONDS = 30
#: Seconds that a cluster may be without workers, until the command ends.
EMPTY_SECONDS = 60.0


class Cluster:
    """The workers of a cluster, each of which has reached both databases.

    :param address: of the scheduler, such as ``tcp://scheduler:8786``.
    :param slots: tasks that run at the same time; None for one per thread of the workers.
    :raises CannotConnect: when the scheduler does not answer, or a worker does not reach a database.
    :raises Refused: when the cluster has no workers, or a worker has another version of Confiture.
    """

    depth = DEPTH
    died: tuple[type[BaseException], ...] = (KilledWorker, CancelledError)

    def __init__(self, context: Context, address: str, slots: int | None) -> None:
        self._context = context
        self._address = address
        try:
            self._client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise CannotConnect(
                f"cannot reach the Dask scheduler at {address}",
                why=redact(str(error)) or type(error).__name__,
                fix="start it, or correct --executor; nothing was copied",
            ) from error
        try:
            threads = self._threads()
            if not threads:
                raise Refused(
                    f"the Dask cluster at {address} has no workers",
                    why="a task would wait indefinitely",
                    fix=f"start one: dask worker {address}; nothing was copied",
                )
            self._refuse_unfit()
        except BaseException:
            self._client.close()
            raise
        self.slots = min(slots or threads, threads)
        self._executor = self._client.get_executor(pure=False)
        self._empty_since: float | None = None

    def _threads(self) -> int:
        return sum(self._client.nthreads().values())

    def _refuse_unfit(self) -> None:
        """Have each worker reach both databases, before anything is given to one."""
        answers = self._client.run(worker.greet, self._context.facts, on_error="return")
        for place, answer in answers.items():
            if isinstance(answer, BaseException):
                raise Refused(
                    f"the Dask worker {place} cannot run Confiture",
                    why=redact(f"{type(answer).__name__}: {answer}".splitlines()[0]),
                    fix=f"install confiture {__version__} there; nothing was copied",
                )
            version, problem = answer
            if version != __version__:
                raise Refused(
                    f"the Dask worker {place} has confiture {version}, and this command {__version__}",
                    why="the runner and its workers must have the same version",
                    fix=f"install confiture {__version__} there; nothing was copied",
                )
            if problem:
                raise CannotConnect(
                    f"the Dask worker {place} cannot connect to a database",
                    why=redact(problem),
                    fix="permit connections from that host to both databases; nothing was copied",
                )

    def submit(self, task: Callable[..., T], *arguments: object, alone: bool = False) -> Future[Outcome[T]]:
        """Give the task to the scheduler, which gives a busy worker no further one."""
        run = partial(worker.perform, self._context.facts, task, *arguments)
        future: Future[Outcome[T]] = self._executor.submit(run)
        return future

    def check(self) -> None:
        """Check that the cluster has workers.

        :raises CannotConnect: when it has been without any for :data:`EMPTY_SECONDS`.
        """
        with suppress(OSError, TimeoutError):
            if self._threads():
                self._empty_since = None
                return
        now = time.monotonic()
        if self._empty_since is None:
            self._empty_since = now
            self._context.progress.say(f"the Dask cluster at {self._address} has no workers; waiting for one")
        if now - self._empty_since > EMPTY_SECONDS:
            raise CannotConnect(
                f"the Dask cluster at {self._address} has had no workers for {EMPTY_SECONDS:.0f} s",
                why="every worker has ended, or the scheduler does not answer",
                fix="start workers, then run the same command again; completed chunks are kept",
            )

    def close(self) -> None:
        """End the tasks that are running, with their sessions. The cluster itself continues."""
        # The scheduler may be gone. Its workers can write nothing without their runner.
        with suppress(Exception):
            self._executor.shutdown(wait=False)
            self._client.run(worker.close, self._context.facts, on_error="ignore")
        self._client.close(timeout=ANSWER_SECONDS)
