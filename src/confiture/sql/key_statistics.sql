-- name: intervals
-- The values of a key's first column, as ANALYZE has divided them: intervals that include their lower end and end behind
-- the cursor, in order, with the share of the rows whose value is the lower end, and the share of the rows above it.
-- Partitions and children count one by one if the table that they belong to has no statistics of all of them, unless they
-- are many.
WITH RECURSIVE tree (oid, schema, name, kind, rows) AS (
    SELECT c.oid, c.relnamespace, c.relname, c.relkind, c.reltuples
    FROM pg_catalog.pg_class c WHERE c.oid = {table}::regclass
    UNION
    SELECT c.oid, c.relnamespace, c.relname, c.relkind, c.reltuples
    FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE NOT {only}
), analyzed AS (
    SELECT t.oid, s.inherited, bool_or(s.inherited) OVER () AS whole,
        s.most_common_vals::text::{type}[] AS common, s.most_common_freqs AS shares,
        s.histogram_bounds::text::{type}[] AS bounds,
        1 - s.null_frac - coalesce((SELECT sum(f) FROM unnest(s.most_common_freqs) f), 0) AS rare,
        CASE WHEN s.inherited THEN 1 ELSE coalesce(greatest(t.rows, 0)
            / (SELECT nullif(sum(greatest(rows, 0)), 0) FROM tree WHERE kind <> 'p'), 1) END AS weight
    FROM tree t
        JOIN pg_catalog.pg_namespace n ON n.oid = t.schema
        CROSS JOIN LATERAL (
            SELECT * FROM pg_catalog.pg_stats
            WHERE (schemaname, tablename, attname) = (n.nspname, t.name, {name}) OFFSET 0
        ) s
    WHERE CASE WHEN t.oid = {table}::regclass THEN NOT (s.inherited AND {only})
        -- To merge the histograms of more partitions takes longer than to scan the index.
        ELSE NOT s.inherited AND (SELECT count(*) FROM tree) <= 100 END
), marks (oid, value, share, bucket, change) AS (
    -- No rows: the values get the collation of the column, in which they are sorted.
    SELECT 0::oid, {column}::{type}, 0::float8, 0::float8, 0 FROM {source} WHERE false
    UNION ALL
    SELECT a.oid, m.value, a.weight * m.share, NULL, 0
    FROM analyzed a, unnest(a.common, a.shares) m (value, share) WHERE a.inherited = a.whole
    UNION ALL
    SELECT a.oid, b.value, 0, CASE WHEN b.n <= b.parts THEN b.bucket ELSE 0 END,
        CASE b.n WHEN 1 THEN 1 WHEN b.parts + 1 THEN -1 ELSE 0 END
    FROM analyzed a, LATERAL (
        SELECT u.value, u.n, p.parts, a.weight * a.rare / p.parts AS bucket
        FROM unnest(a.bounds) WITH ORDINALITY u (value, n), (SELECT cardinality(a.bounds) - 1 AS parts) p
    ) b
    WHERE a.inherited = a.whole
), spread AS (
    -- Common values divide the bucket of the histogram that they are in.
    SELECT value, share, coalesce(sum(bucket) OVER part * width / sum(width) OVER part, 0) AS above,
        change, change * coalesce(max(bucket) OVER (PARTITION BY oid), 0) AS open
    FROM (
        SELECT *, count(bucket) OVER own AS nth, {width} AS width
        FROM marks WINDOW own AS (PARTITION BY oid ORDER BY value)
    ) m
    WINDOW part AS (PARTITION BY oid, nth)
)
SELECT i.lower::text, i.upper::text, share, above, open, buckets
FROM (
    SELECT value AS lower, lead(value) OVER (ORDER BY value) AS upper, sum(share) AS share, sum(above) AS above,
        sum(sum(open)) OVER (ORDER BY value) AS open, sum(sum(change)) OVER (ORDER BY value) AS buckets
    FROM spread GROUP BY value
) i
WHERE {behind}
ORDER BY i.lower

-- name: first_keys
-- The first key at or above each of some values of its first column, which are in order: one lookup each, and none for a
-- value that is not above the key found before.
WITH RECURSIVE wanted (value, n) AS (
    SELECT value, n FROM unnest({values}::{type}[]) WITH ORDINALITY w (value, n)
), found AS (
    (SELECT {key} FROM {source} WHERE {column} >= (SELECT value FROM wanted WHERE n = 1) ORDER BY {key} LIMIT 1)
    UNION ALL
    SELECT k.*
    FROM found f
        CROSS JOIN LATERAL (SELECT value FROM wanted WHERE value > f.{column} ORDER BY n LIMIT 1) confiture_next
        CROSS JOIN LATERAL (
            SELECT {key} FROM {source} WHERE {column} >= confiture_next.value ORDER BY {key} LIMIT 1
        ) k
)
SELECT {texts} FROM found ORDER BY {key}
