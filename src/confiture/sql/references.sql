-- name: missing
-- The values of a foreign key without a parent, printed by the target.
SELECT DISTINCT {values} FROM {rows} c WHERE {filled} AND NOT {parent}

-- name: open
-- The same for a whole table, once, in a result that outlives its transaction.
DECLARE confiture_missing NO SCROLL CURSOR WITH HOLD FOR {missing}

-- name: is_open
-- Whether this session still holds that result.
SELECT EXISTS (SELECT FROM pg_cursors WHERE name = 'confiture_missing')

-- name: next
-- The next values of it.
FETCH {number} FROM confiture_missing

-- name: still_missing
-- Those of some values that have no parent now.
SELECT {values} FROM {wanted} WHERE NOT {parent}

-- name: staging
-- A table with the filled columns of a target table, without its constraints, for one transaction.
CREATE TEMP TABLE {staging} ON COMMIT DROP AS SELECT {columns} FROM {target} WITH NO DATA

-- name: exclude
-- Remove the staged rows that have one of some keys.
DELETE FROM {staging} WHERE ({identity}) IN (SELECT {wanted})

-- name: place
-- The staged rows that violate no unique index.
INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {staging} ON CONFLICT DO NOTHING

-- name: unique_indexes
-- The columns and expressions of each unique index of a table, and its condition.
SELECT ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, false) FROM generate_series(1, i.indnkeyatts) n),
       pg_get_expr(i.indpred, i.indrelid)
FROM pg_index i WHERE i.indrelid = %(table)s::regclass AND i.indisunique

-- name: displaced
-- Remove the rows of a target table that a unique index does not permit beside the staged rows. Records are compared as
-- the index compares its columns, whatever the search_path.
DELETE FROM {rows} WHERE (tableoid, ctid) IN (
    SELECT t.part, t.place
    FROM (SELECT tableoid AS part, ctid AS place, ROW({expressions}) AS key FROM {rows} WHERE {indexed}) t
    JOIN (SELECT ROW({expressions}) AS key FROM {staging} WHERE {indexed}) s ON t.key = s.key
)
RETURNING {identity}

-- name: not_staged
-- Those of some keys that no staged row has.
SELECT {wanted} EXCEPT SELECT {identity} FROM {staging}

-- name: orphans
-- Remove the rows whose foreign key has one of some values and no parent.
DELETE FROM {rows} c WHERE {key} IN (SELECT {wanted}) AND NOT {parent}
RETURNING {identity}

-- name: count
-- The rows of a foreign key whose values are not NULL.
SELECT count(*) FROM {rows} c WHERE {filled}

-- name: violations
-- Those of them without a parent.
SELECT count(*) FROM {rows} c WHERE {filled} AND NOT {parent}

-- name: partly_null
-- The rows with some NULLs among the columns of a foreign key.
SELECT count(*) FROM {rows} c WHERE NOT ({filled}) AND ({any})

-- name: roots
-- Of each partition, the table that it is part of.
SELECT n.nspname, c.relname, rn.nspname, r.relname
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = pg_partition_root(c.oid)
JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f')
