"""For random tables, foreign keys, rows and choices: the chosen rows and all that they refer to, and no other row."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psycopg
import pytest

from chosen import add_keys, chosen_copy
from confiture.copy.run_table import RunTable
from confiture.postgres.session import Transaction
from confiture.runner.context import Context
from confiture.sync import references, selection
from servers import Databases, TestDatabase

#: A row, by table and id.
Row = tuple[str, int]


@dataclass(frozen=True)
class Link:
    """A foreign key from one table to another, by its id or by its unique pair of columns.

    :ivar parents: the id of the parent of each row that has one.
    """

    child: str
    number: int
    parent: str
    pair: bool
    required: bool
    parents: Mapping[int, int]

    @property
    def columns(self) -> str:
        return f"r{self.number}_a, r{self.number}_b" if self.pair else f"r{self.number}"

    @property
    def added(self) -> str:
        referenced = "a, b" if self.pair else "id"
        return f"ALTER TABLE {self.child} ADD FOREIGN KEY ({self.columns}) REFERENCES {self.parent} ({referenced});"


@dataclass(frozen=True)
class World:
    """Tables t0, t1 and so on with as many rows as given, and their foreign keys."""

    sizes: Mapping[str, int]
    links: tuple[Link, ...]

    @property
    def ddl(self) -> str:
        found = []
        for table in self.sizes:
            columns = ["id int PRIMARY KEY", "a int", "b text", "UNIQUE (a, b)"]
            for link in self.links:
                if link.child == table:
                    null = " NOT NULL" if link.required else ""
                    names = zip(link.columns.split(", "), ("int", "text"), strict=False)
                    columns += [f"{name} {kind}{null}" for name, kind in names]
            found.append(f"CREATE TABLE {table} ({', '.join(columns)});")
        return "\n".join(found)

    @property
    def rows(self) -> str:
        found = []
        for table, size in self.sizes.items():
            for n in range(size):
                values = [str(n), str(n % 7), f"'b{n}'"]
                for link in self.links:
                    if link.child == table:
                        parent = link.parents.get(n)
                        whole = ["NULL"] if parent is None else [str(parent)]
                        both = ["NULL", f"'b{n}'"] if parent is None else [str(parent % 7), f"'b{parent}'"]
                        values += both if link.pair else whole
                found.append(f"INSERT INTO {table} VALUES ({', '.join(values)});")
        return "\n".join(found)

    @property
    def keys(self) -> str:
        return "\n".join(link.added for link in self.links)

    def with_all_that_they_refer_to(self, chosen: set[Row]) -> set[Row]:
        found, waiting = set(chosen), list(chosen)
        while waiting:
            table, n = waiting.pop()
            for link in self.links:
                if link.child == table and n in link.parents:
                    parent = (link.parent, link.parents[n])
                    if parent not in found:
                        found.add(parent)
                        waiting.append(parent)
        return found


def world(dice: random.Random) -> World:
    sizes = {f"t{n}": dice.randint(1, 40) for n in range(dice.randint(1, 6))}
    links = []
    for number in range(dice.randint(1, 9)):
        child, parent = dice.choice(list(sizes)), dice.choice(list(sizes))
        pair = dice.random() < 0.3
        required = not pair and dice.random() < 0.4
        parents = {
            n: dice.randrange(sizes[parent]) for n in range(sizes[child]) if required or dice.random() < 0.8
        }  # fmt: skip
        links.append(Link(child, number, parent, pair, required, parents))
    return World(sizes, tuple(links))


def options(dice: random.Random, tables: list[str]) -> dict[str, object]:
    named = dice.sample(tables, dice.randint(1, len(tables))) if dice.random() < 0.5 else []
    filtered = dice.sample(named or tables, dice.randint(0, len(named or tables)))
    where = [f"{table}=id % {dice.randint(2, 9)} = 1" for table in filtered]
    return {"tables": named, "where": where, "percent": dice.choice([None, 10, 50])}


def ids(database: TestDatabase, table: str, where: str | None) -> set[Row]:
    return {(table, n) for (n,) in database.rows(f"SELECT id FROM {table} WHERE {where or 'true'}")}


@pytest.mark.parametrize("seed", range(12))
def test_chosen_rows_and_what_they_refer_to_are_there_and_no_other_row(
    seed: int, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    made = world(dice)
    monkeypatch.setattr(references, "BY_INDEX", dice.choice([1, 3, 1000]))
    monkeypatch.setattr(references, "BATCH_ROWS", dice.choice([1, 10, 1000]))
    monkeypatch.setattr(selection, "SAMPLED_FROM", 5)
    source, target = databases.make(), databases.make()
    source.sql(made.ddl + made.rows + made.keys + "ANALYZE")
    target.sql(made.ddl + made.keys)
    masks = {}
    if dice.random() < 0.5:
        masks = {f"{table}.b": "pg_catalog.md5(b)" for table in made.sizes}
        masks |= {f"{k.child}.r{k.number}_b": f"pg_catalog.md5(r{k.number}_b)" for k in made.links if k.pair}
    with chosen_copy(source, target, masks=masks, **options(dice, list(made.sizes))) as copy:
        chosen = {row for ref, s in copy.chosen.items() for row in ids(source, ref.name, s.where)}
        copy.copy()
        filled = copy.fill()
        assert {c.violations for c in copy.check()} == {0}
    add_keys(target, copy.keys)
    there = {row for table in made.sizes for row in ids(target, table, None)}
    assert there == made.with_all_that_they_refer_to(chosen)
    assert (sum(filled.added.values()), filled.removed) == (len(there) - len(chosen), 0)


def change(dice: random.Random, made: World) -> str:
    """A transaction of the application that its foreign keys permit, or that fails as a whole."""
    table = dice.choice(list(made.sizes))
    n, m = dice.randrange(made.sizes[table]), dice.randrange(made.sizes[table])
    changes = [
        f"DELETE FROM {table} WHERE id = {n}",
        f"UPDATE {table} SET id = id + 1000 WHERE id = {n}",
        f"UPDATE {table} SET b = 'b{n}x' WHERE id = {n}; UPDATE {table} SET a = {n % 7}, b = 'b{n}' WHERE id = {m}",
        f"INSERT INTO {table} SELECT id + 2000, {columns_after_id(made, table, n)} FROM {table} WHERE id = {m}",
    ]
    for link in made.links:
        if link.child == table:
            to = dice.randrange(made.sizes[link.parent])
            values = "a, b" if link.pair else "id"
            changes.append(
                f"UPDATE {table} SET ({link.columns}) = (SELECT {values} FROM {link.parent} WHERE id = {to})"
            )
            changes[-1] += f" WHERE id = {n}"
    return dice.choice(changes)


def columns_after_id(made: World, table: str, n: int) -> str:
    """The columns of a row that is inserted beside another one: its pair is its own."""
    return ", ".join([f"{n % 7}", f"'b{n}y'", *(k.columns for k in made.links if k.child == table)])


@pytest.mark.parametrize("seed", range(10))
def test_every_key_holds_whatever_the_application_writes_meanwhile(
    seed: int, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(1000 + seed)
    made = world(dice)
    source, target = databases.make(), databases.make()
    cascade = made.keys.replace(";", " ON DELETE CASCADE ON UPDATE CASCADE;")
    source.sql(made.ddl + made.rows + cascade)
    target.sql(made.ddl + made.keys)
    written = 0

    def write(number: int) -> None:
        nonlocal written
        for _ in range(number):
            with contextlib.suppress(psycopg.errors.IntegrityError):
                source.sql(change(dice, made))
                written += 1

    reading = references.reading

    def reading_after_writes(context: Context, jobs: Sequence[RunTable]) -> AbstractContextManager[Transaction]:
        if written < 200:
            write(2)
        return reading(context, jobs)

    monkeypatch.setattr(references, "BY_INDEX", dice.choice([1, 3, 1000]))
    monkeypatch.setattr(references, "reading", reading_after_writes)
    with chosen_copy(source, target, **options(dice, list(made.sizes))) as copy:
        for table in dice.sample(list(made.sizes), len(made.sizes)):
            copy.copy(table)
            write(20)
        filled = copy.fill()
        assert {c.violations for c in copy.check()} == {0}
    add_keys(target, copy.keys)
    assert not filled.orphans
    assert written > 5
