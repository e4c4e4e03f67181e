"""Many cases in one run: each case has a schema of its own, so that all can use the same names."""

from __future__ import annotations

from collections.abc import Iterable


def named(number: int) -> str:
    """The schema of a case."""
    return f"c{number}"


def create_each(statements: Iterable[str]) -> str:
    """Create a schema for each case, and run its statements in it. They may end without a semicolon."""
    return in_each(f"CREATE SCHEMA {named(number)}; {text}" for number, text in enumerate(statements))


def in_each(statements: Iterable[str]) -> str:
    """Run the statements of each case in its schema."""
    return "".join(f"SET search_path = {named(number)};\n{text};\n" for number, text in enumerate(statements))
