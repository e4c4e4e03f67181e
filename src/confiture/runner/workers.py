"""The workers of a command: where its tasks run. In this process, in processes of this machine, or on other hosts.

A task is a function of a context and of values that can be pickled. It is idempotent: the journal records what is done,
so that a task whose worker died is run again.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from types import ModuleType
from typing import Any, Protocol, TypeVar

from confiture.runner import worker
from confiture.runner.context import Context
from confiture.runner.worker import Outcome

T = TypeVar("T")

#: Tasks given to each process: the next one begins while the runner plans further ones.
DEPTH = 2


class Pool(Protocol):
    """Runs tasks.

    :ivar slots: tasks that run at the same time.
    :ivar depth: tasks that a slot may have, the running one included.
    :ivar died: the errors of a task whose worker ended in the middle of it.
    """

    slots: int
    depth: int
    died: tuple[type[BaseException], ...]

    def submit(self, task: Callable[..., T], *arguments: object, alone: bool = False) -> Future[Outcome[T]]:
        """Run a task as soon as a slot is free.

        :param task: its first argument is the context of the process that runs it; ``arguments`` follow.
        :param alone: it takes long, so that no other task is to wait behind it.
        """
        ...

    def check(self) -> None:
        """Check that a task that was submitted will run; called while tasks are waited for."""
        ...

    def close(self) -> None:
        """End every worker. A task that is running is lost, and its transactions are rolled back."""
        ...


class Here:
    """Runs each task at once, in this process and in the sessions of the runner."""

    slots = depth = 1
    died: tuple[type[BaseException], ...] = ()

    def __init__(self, context: Context) -> None:
        self._context = context

    def submit(self, task: Callable[..., T], *arguments: object, alone: bool = False) -> Future[Outcome[T]]:
        """Run the task; the future is done."""
        future: Future[Outcome[T]] = Future()
        future.set_result(worker.attempt(self._context, task, *arguments))
        return future

    def check(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started in the block does not import the main module again, which no task needs.

    The main module may be a script that has no guard against that.
    https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods
    """
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


_starting = threading.Lock()


def _start(modules: Sequence[str]) -> BaseContext:
    """How worker processes are started.

    A process that is forked from the runner would share its connections, and its locks in whatever state they are. A
    server process, which has no more than the modules of the tasks, forks the workers.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    start = multiprocessing.get_context("forkserver" if forks else "spawn")
    start.set_forkserver_preload(list(modules))
    return start


def start_early(modules: Sequence[str]) -> None:
    """Start the process that will fork the workers, so that it imports the modules while the runner prepares.

    It ends with this process, also when it has not been used.
    """
    if _start(modules).get_start_method() == "forkserver":
        forkserver.ensure_running()


class WorkerEnded(Exception):
    """The process of a task ended before the task did."""


class _Process:
    """A worker process, and the thread of the runner that gives it one task after the other.

    A pool of ``concurrent.futures`` would break when one of its processes is killed. Its locks are named semaphores,
    about which Python prints a warning when the runner is killed.

    :ivar ended: the process has ended; it gets no more tasks.
    :ivar load: the tasks that it has; one that takes long counts as many as a process may have.
    """

    def __init__(self, start: BaseContext) -> None:
        self.ended = False
        self.load = 0
        self._start = start
        self._process: BaseProcess | None = None
        self._tasks: SimpleQueue[tuple[Future[Any], partial[Any]]] = SimpleQueue()
        self._changing = threading.Lock()
        threading.Thread(target=self._drive, name="worker process", daemon=True).start()

    def give(self, run: partial[Any], load: int) -> Future[Any] | None:
        """Run a task behind those that the process has; None when the process has ended."""
        future: Future[Any] = Future()
        with self._changing:
            if self.ended:
                return None
            self.load += load
            self._tasks.put((future, run))
        future.add_done_callback(lambda _: self._done(load))
        return future

    def _done(self, load: int) -> None:
        with self._changing:
            self.load -= load

    def kill(self) -> None:
        """End the process, and the task that it runs."""
        with self._changing:
            self.ended = True
            if self._process is not None:
                self._process.kill()
            self._tasks.put((Future(), partial(int)))  # the thread looks whether the process has ended

    def _drive(self) -> None:
        """Start the process, and give it each task until it ends."""
        current: Future[Any] = Future()
        try:
            with self._begun() as connection:
                while True:
                    current, run = self._tasks.get()
                    if self.ended:
                        raise WorkerEnded("the pool was closed")
                    connection.send(run)
                    succeeded, answer = connection.recv()
                    current.set_result(answer) if succeeded else current.set_exception(answer)
        except (EOFError, OSError) as error:
            self._end(current, WorkerEnded(str(error) or "the process was killed"))
        except Exception as error:  # noqa: BLE001 - of a task that cannot be sent; the thread that waits raises it
            self._end(current, error)

    def _end(self, current: Future[Any], error: Exception) -> None:
        self.kill()
        waiting = [current]
        while not self._tasks.empty():
            waiting.append(self._tasks.get()[0])
        for future in waiting:
            if not future.done():
                future.set_exception(error)

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        ours, theirs = self._start.Pipe()
        level = logging.getLogger("confiture").level
        process = self._start.Process(target=worker.serve, args=(theirs, level), daemon=True)  # type: ignore[attr-defined]
        with ours, theirs:
            with _without_main():
                process.start()
            theirs.close()
            with self._changing:
                self._process = process
                if self.ended:
                    process.kill()
            yield ours


class Processes:
    """Worker processes of this machine. They end with the runner; one that was killed is replaced.

    :param slots: the number of processes.
    :param modules: of the tasks.
    """

    depth = DEPTH
    died: tuple[type[BaseException], ...] = (WorkerEnded,)

    def __init__(self, context: Context, slots: int, modules: Sequence[str]) -> None:
        self.slots = slots
        self._context = context
        self._start = _start(modules)
        self._processes = [_Process(self._start) for _ in range(slots)]

    def submit(self, task: Callable[..., T], *arguments: object, alone: bool = False) -> Future[Outcome[T]]:
        """Give the task to the process that has the least to do."""
        run = partial(worker.perform, self._context.facts, task, *arguments)
        load = self.depth if alone else 1
        while True:
            number = min(range(self.slots), key=lambda n: self._processes[n].load)
            future = self._processes[number].give(run, load)
            if future is not None:
                return future
            self._processes[number] = _Process(self._start)

    def check(self) -> None:
        """Nothing: a process that died is replaced."""

    def close(self) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
