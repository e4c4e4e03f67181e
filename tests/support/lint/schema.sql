CREATE SCHEMA app;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN address AS text CHECK (VALUE LIKE '%@%');
CREATE DOMAIN label AS text;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE FUNCTION secret(integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN $1 + 1; END';
CREATE SEQUENCE ticket;
CREATE TABLE users (
    id bigint PRIMARY KEY,
    name varchar(50) NOT NULL,
    email text,
    age integer,
    score numeric(8, 2),
    joined timestamp(3),
    seen timestamptz,
    code char(5),
    mask varbit(8),
    net cidr,
    note varchar,
    nick varchar(10) CHECK (nick <> ''),
    city varchar(10),
    tags text[],
    feeling mood,
    tag label,
    payload json,
    paused interval(3),
    active boolean NOT NULL DEFAULT true,
    doubled integer GENERATED ALWAYS AS (age * 2) STORED
);
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    user_id bigint,
    amount numeric(10, 2),
    placed date NOT NULL,
    status text,
    span tsrange
);
CREATE TABLE items (
    order_id bigint NOT NULL,
    line integer NOT NULL,
    sku text,
    price numeric,
    CONSTRAINT items_sku_known CHECK (sku IS NOT NULL)
);
CREATE TABLE logs (id bigint, at timestamptz, text text);
CREATE TABLE events (id bigint, at date NOT NULL, kind text) PARTITION BY RANGE (at);
CREATE TABLE events_2023 PARTITION OF events FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE events_2024 (id bigint, at date NOT NULL, kind text);
CREATE TABLE events_2025 (
    id bigint,
    at date NOT NULL,
    kind text,
    CONSTRAINT events_2025_bounds CHECK (at >= '2025-01-01' AND at < '2026-01-01')
);
CREATE TABLE regions (name text NOT NULL, size integer) PARTITION BY LIST (name);
CREATE TABLE regions_south (name text NOT NULL, size integer);
CREATE TABLE kinds (number integer NOT NULL) PARTITION BY LIST (number);
CREATE TABLE kinds_other PARTITION OF kinds DEFAULT;
CREATE VIEW active_users AS SELECT id, active FROM users WHERE active;
CREATE MATERIALIZED VIEW totals AS SELECT placed, count(*) AS orders FROM orders GROUP BY placed;
CREATE UNIQUE INDEX totals_placed ON totals (placed);
CREATE INDEX orders_user ON orders (user_id);
CREATE INDEX users_email ON users (email);
CREATE INDEX users_city ON users (city);
CREATE UNIQUE INDEX items_place ON items (order_id, line);
CREATE UNIQUE INDEX logs_key ON logs (id);
ALTER TABLE orders ADD CONSTRAINT orders_amount CHECK (amount >= 0) NOT VALID;
INSERT INTO users (id, name, email, age, score, joined, seen, code, mask, net, note, tags, feeling, tag, payload)
    SELECT n, 'name ' || n, 'e' || n || '@example.com', n % 90, n, now(), now(), 'abc', B'1010', '10.0.0.0/8',
        'note', '{a,b}', 'ok', 'tag', '{}'
    FROM generate_series(1, 200) n;
INSERT INTO orders (id, user_id, amount, placed, status)
    SELECT n, n, n, DATE '2024-01-01' + n, 'open' FROM generate_series(1, 200) n;
INSERT INTO items (order_id, line, sku, price) SELECT n, 1, 'sku', n FROM generate_series(1, 200) n;
INSERT INTO logs (id, at, text) SELECT n, now(), 'x' FROM generate_series(1, 200) n;
INSERT INTO events_2023 (id, at, kind) SELECT n, DATE '2023-01-01' + n, 'x' FROM generate_series(1, 200) n;
INSERT INTO events_2024 (id, at, kind) SELECT n, DATE '2024-01-01' + n, 'x' FROM generate_series(1, 200) n;
INSERT INTO events_2025 (id, at, kind) SELECT n, DATE '2025-01-01' + n, 'x' FROM generate_series(1, 200) n;
INSERT INTO regions_south (name, size) SELECT 'south', n FROM generate_series(1, 200) n;
INSERT INTO kinds SELECT 2 FROM generate_series(1, 200) n;
REFRESH MATERIALIZED VIEW totals;
