"""A small sync for tests: a production database with personal columns, a project folder, an empty target.

The expected rows are computed here by SQL that is independent of the tool's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from forked import Ended, Forks
from projects import Done, call_confiture
from servers import Databases, TestDatabase

KEY = "the key of the tests, 32 bytes !"

SCHEMA = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE country (code char(2) PRIMARY KEY, title text NOT NULL);
CREATE TABLE customer (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email varchar(60) NOT NULL UNIQUE,
    full_name text,
    country char(2) REFERENCES country,
    boss int REFERENCES customer,
    state mood NOT NULL DEFAULT 'good'
);
CREATE TABLE account (email varchar(60) PRIMARY KEY REFERENCES customer (email), credit numeric(10, 2) NOT NULL);
CREATE TABLE orders (
    id bigserial, customer_id int NOT NULL REFERENCES customer, placed date NOT NULL, amount numeric(10, 2),
    twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
    PRIMARY KEY (id, placed)
) PARTITION BY RANGE (placed);
CREATE TABLE orders_old PARTITION OF orders FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE orders_new PARTITION OF orders FOR VALUES FROM ('2025-01-01') TO (MAXVALUE);
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE TABLE log (at timestamptz NOT NULL, message text);
CREATE MATERIALIZED VIEW spent AS SELECT customer_id, sum(amount) AS total FROM orders GROUP BY customer_id;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger fired'; END $$;
"""
TRIGGERS = """
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON customer FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse_empty BEFORE TRUNCATE ON country FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""
ROWS = """
INSERT INTO country VALUES ('CH', 'Switzerland'), ('FR', 'France'), ('DE', 'Germany');
INSERT INTO customer (email, full_name, country, boss)
    SELECT 'user' || n || '@firm' || n % 7 || '.ch', 'Anna Muster ' || n, (ARRAY['CH', 'FR'])[n % 2 + 1],
        nullif(n / 10, 0)
    FROM generate_series(1, 300) n;
INSERT INTO account SELECT email, id FROM customer WHERE id % 3 = 0;
INSERT INTO orders (customer_id, placed, amount)
    SELECT 1 + n % 300, date '2024-06-01' + n % 400, n * 1.5 FROM generate_series(1, 1200) n;
INSERT INTO log SELECT '2025-01-01Z'::timestamptz + make_interval(mins => n), 'line ' || n
    FROM generate_series(1, 50) n;
REFRESH MATERIALIZED VIEW spent;
ANALYZE;
"""
MASK = """
customer:
  email: email
  full_name: name
"""
#: Rows that are the same on both sides, with the keys that identify them.
UNMASKED = (
    "SELECT * FROM country",
    "SELECT id, country, boss, state FROM customer",
    "SELECT * FROM orders",
    "SELECT * FROM spent",
    "SELECT * FROM log",
    "SELECT c.id, a.credit FROM account a JOIN customer c USING (email)",
)
#: The design of the target's own schema, by name and definition.
DESIGN = """
    SELECT 'relation', relname::text, relkind::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
    UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) || convalidated
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid FROM pg_index
        JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, tgenabled::text FROM pg_trigger
        WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
"""
#: Everything in a database that has values of rows, or of statistics about them.
TABLES = """
    SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables
    UNION ALL VALUES ('pg_catalog.pg_stats'), ('pg_catalog.pg_stats_ext'), ('pg_catalog.pg_stats_ext_exprs')
"""


@dataclass(frozen=True)
class Synced:
    """A project with the environments ``production``, which is protected, and ``local``."""

    folder: Path
    source: TestDatabase
    target: TestDatabase
    env: dict[str, str] = field(default_factory=lambda: {"CONFITURE_MASK_KEY": KEY})

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    @property
    def arguments(self) -> list[str]:
        """The command, the same one every time."""
        return ["sync", "--from", "production", "--to", "local"]

    def run(self, *options: str, check: int | None = 0, env: dict[str, str] | None = None) -> Done:
        """Run the command in this process; ``check`` is the expected exit code."""
        return call_confiture(*self.arguments, *options, cwd=self.folder, env={**self.env, **(env or {})}, check=check)

    def call(self, *arguments: str, check: int | None = 0) -> Done:
        """Run any command in this process."""
        return call_confiture(*arguments, cwd=self.folder, env=self.env, check=check)

    def killed(self, forks: Forks, point: str, *options: str) -> Ended:
        """Run the command in a process of its own, which ends at a failpoint."""
        return forks.run([*self.arguments, *options], self.folder, **self.env, CONFITURE_FAILPOINT=point)

    @property
    def state(self) -> str:
        """The state of the last run in the journal."""
        return str(self.target.value("SELECT state FROM confiture.run ORDER BY started_at DESC LIMIT 1"))

    def masked(self) -> list[tuple[object, ...]]:
        """The masked columns of the target, which the same key gives again."""
        return self.target.rows("SELECT id, email, full_name FROM customer ORDER BY id")

    def mentions(self, text: str) -> list[str]:
        """The places in the target that contain a text: tables, also those of the journal, statistics, the log."""
        log = self.target.server.log.read_text(errors="replace")
        found = ["the server's log"] if text in log else []
        for (name,) in self.target.rows(TABLES):
            if self.target.rows(f"SELECT 1 FROM {name} t WHERE t::text LIKE '%{text}%' LIMIT 1"):
                found.append(name)
        return found

    def assert_complete(self) -> None:
        """The target has every row once, masked, under the constraints that its DDL declares."""
        for query in UNMASKED:
            ordered = f"SELECT * FROM ({query}) q ORDER BY q::text"
            assert self.target.rows(ordered) == self.source.rows(ordered), query
        clear = self.source.rows("SELECT email FROM customer UNION SELECT full_name FROM customer")
        found = self.target.rows("SELECT email FROM customer UNION SELECT full_name FROM customer")
        assert not {*clear} & {*found}
        assert len(self.masked()) == len({row[1] for row in self.masked()})
        assert self.target.rows("SELECT 1 FROM pg_constraint WHERE NOT convalidated") == []
        assert self.state == "cleaned"


def make(databases: Databases, folder: Path, *, built: bool = False) -> Synced:
    """The databases and the project; ``built``: the schema is in the target already."""
    source = databases.cloned(SCHEMA + ROWS)
    target = databases.cloned(SCHEMA + TRIGGERS) if built else databases.make()
    made = Synced(folder, source, target)
    made.write("db/environments/production.yaml", f"database_url: {source.conninfo}\nprotected: true\n")
    made.write("db/environments/local.yaml", f"database_url: {target.conninfo}\n")
    made.write("db/schema/10_tables.sql", SCHEMA)
    made.write("db/schema/20_triggers.sql", TRIGGERS)
    made.write("db/sync/mask.yaml", MASK)
    return made


def design(database: TestDatabase) -> list[tuple[object, ...]]:
    """The constraints, indexes and triggers of a target."""
    return sorted(database.rows(DESIGN))
