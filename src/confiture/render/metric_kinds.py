"""The kinds of metrics: a number, and a state that has one sample for each possible value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, StateSetMetricFamily

T = TypeVar("T")

#: The values of the labels, each with its subject.
Subjects = tuple[tuple[tuple[str, ...], T], ...]


@dataclass(frozen=True, slots=True)
class Number(Generic[T]):
    """A number of each run, table or standby.

    :ivar of: the value; None where it is not known.
    :ivar counter: whether it only grows.
    """

    name: str
    text: str
    of: Callable[[T], float | None]
    counter: bool = False

    def family(self, names: tuple[str, ...], subjects: Subjects[T]) -> Metric:
        """The metric, with a sample for each subject that has a value."""
        kind = CounterMetricFamily if self.counter else GaugeMetricFamily
        found = kind(self.name, self.text, labels=names)
        for labels, subject in subjects:
            value = self.of(subject)
            if value is not None:
                found.add_metric(labels, value)
        return found


@dataclass(frozen=True, slots=True)
class State(Generic[T]):
    """A state of each run or table.

    :ivar known: every state.
    :ivar of: the current state.
    """

    name: str
    text: str
    known: tuple[str, ...]
    of: Callable[[T], str]

    def family(self, names: tuple[str, ...], subjects: Subjects[T]) -> Metric:
        """The metric, with a sample for each state of each subject."""
        found = StateSetMetricFamily(self.name, self.text, labels=names)
        for labels, subject in subjects:
            current = self.of(subject)
            found.add_metric(labels, {state: state == current for state in self.known})
        return found
