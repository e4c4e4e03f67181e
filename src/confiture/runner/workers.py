"""The workers of a command: where its tasks run. In this process, in processes of this machine, or on other hosts.

A task is a function of a context and of values that can be pickled. It is idempotent: the journal records what is done,
so that a task whose worker died is run again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from types import ModuleType
from typing import Protocol, TypeVar

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


@dataclass
class _Process:
    """A worker process, started again by its next task when it has died.

    :ivar pid: of the process; None until it has started.
    :ivar load: the tasks that it has; one that takes long counts as many as a process may have.
    """

    executor: Executor | None = None
    pid: Future[int] | None = None
    load: int = 0

    def ended(self, load: int) -> None:
        """A task has ended."""
        self.load -= load


@contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started in the block does not import the main module again, which no task needs.

    The main module may be a script that has no guard against that.
    https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


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


class Processes:
    """Worker processes of this machine. They are started when first needed, and end with the runner.

    Each one has an executor of its own, because the death of one process breaks all processes of an executor.

    :param slots: the number of processes.
    :param modules: of the tasks.
    """

    depth = DEPTH
    died: tuple[type[BaseException], ...] = (BrokenProcessPool,)

    def __init__(self, context: Context, slots: int, modules: Sequence[str]) -> None:
        self.slots = slots
        self._context = context
        self._start = _start(modules)
        self._processes = [_Process() for _ in range(slots)]

    def submit(self, task: Callable[..., T], *arguments: object, alone: bool = False) -> Future[Outcome[T]]:
        """Give the task to the process that has the least to do."""
        process = min(self._processes, key=lambda p: p.load)
        run = partial(worker.perform, self._context.facts, task, *arguments)
        try:
            future = self._executor(process).submit(run)
        except BrokenProcessPool:
            process.executor = None
            future = self._executor(process).submit(run)
        load = self.depth if alone else 1
        process.load += load
        future.add_done_callback(lambda _: process.ended(load))
        return future

    def _executor(self, process: _Process) -> Executor:
        if process.executor is None:
            process.executor = ProcessPoolExecutor(1, mp_context=self._start)
            with _without_main():
                process.pid = process.executor.submit(worker.prepare, logging.getLogger("confiture").level)
        return process.executor

    def check(self) -> None:
        """Nothing: a process that died is started again."""

    def close(self) -> None:
        """End every process."""
        for process in self._processes:
            if process.executor is None or process.pid is None:
                continue
            process.executor.shutdown(wait=False)
            if process.pid.done() and process.pid.exception() is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid.result(), signal.SIGKILL)
