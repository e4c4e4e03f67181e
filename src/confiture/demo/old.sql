-- The old database, as it grew.
CREATE TABLE tb_user (
    id            serial PRIMARY KEY,
    username      varchar(40) NOT NULL UNIQUE,
    name          text NOT NULL,
    display_name  text,
    settings_json text,
    created_at    timestamptz NOT NULL
);
CREATE TABLE tb_post (
    id         bigserial PRIMARY KEY,
    user_id    integer NOT NULL REFERENCES tb_user,
    title      varchar(200) NOT NULL,
    body       text,
    posted_at  timestamptz NOT NULL
);
CREATE INDEX ON tb_post (user_id);
CREATE TABLE tb_customer (
    id          integer PRIMARY KEY,
    company     text NOT NULL,
    legacy_flag boolean,
    deleted_at  timestamptz
);
CREATE TABLE tb_scratch (note text);

INSERT INTO tb_user (username, name, display_name, settings_json, created_at)
SELECT 'user' || n, 'Name ' || n, CASE WHEN n % 3 = 0 THEN 'Display ' || n END,
       format('{"theme": "%s", "n": %s}', CASE WHEN n % 2 = 0 THEN 'dark' ELSE 'light' END, n),
       timestamptz '2020-01-01 00:00+00' + n * interval '1 minute'
FROM generate_series(1, 60000) n;
INSERT INTO tb_post (user_id, title, body, posted_at)
SELECT 1 + n % 60000, 'Post ' || n, CASE WHEN n % 10 <> 0 THEN repeat('words ', n % 12) END,
       timestamptz '2021-01-01 00:00+00' + n * interval '1 second'
FROM generate_series(1, 300000) n;
INSERT INTO tb_customer
SELECT n, 'Company ' || n, n % 2 = 0, CASE WHEN n % 50 = 0 THEN timestamptz '2024-01-01 00:00+00' END
FROM generate_series(1, 20000) n;
INSERT INTO tb_scratch SELECT 'left behind ' || n FROM generate_series(1, 100) n;
ANALYZE;
