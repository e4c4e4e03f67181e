-- name: partitioned
-- Whether a table (schema, name) is partitioned.
SELECT c.relkind = 'p'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) = (%s, %s)

-- name: validated
-- Whether a constraint (schema, table, name) is validated.
SELECT con.convalidated
FROM pg_constraint con JOIN pg_class c ON c.oid = con.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname, con.conname) = (%s, %s, %s)

-- name: invalid
-- Those of the named indexes that are not valid.
SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))
      AND NOT (i.indisvalid AND i.indisready)

-- name: sizes
-- The bytes of tables; nothing for one that does not exist.
SELECT n.nspname, c.relname, pg_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%(schemas)s::text[], %(tables)s::text[]))

-- name: built
-- Whether the index that a statement builds is valid; no row where the name is free or has another definition.
SELECT i.indisvalid AND i.indisready
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname, c.relname) = (%(schema)s, %(name)s) AND pg_get_indexdef(i.indexrelid) = %(statement)s

-- name: leaves
-- The leaf partitions of a table, and whether the constraint ``name`` is validated there; NULL where it does not exist.
SELECT n.nspname, c.relname, con.convalidated
FROM pg_partition_tree((SELECT r.oid FROM pg_class r JOIN pg_namespace s ON s.oid = r.relnamespace
                        WHERE (s.nspname, r.relname) = (%(schema)s, %(table)s))) t
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint con ON con.conrelid = c.oid AND con.conname = %(name)s
WHERE t.isleaf
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"

-- name: parts
-- The constraints of a table that are parts of its foreign key ``name``, and whose names do not begin with that name.
WITH RECURSIVE part AS (
    SELECT con.oid, con.conrelid, con.conname FROM pg_constraint con
    JOIN pg_class c ON c.oid = con.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname, con.conname) = (%(schema)s, %(table)s, %(name)s)
    UNION ALL
    SELECT con.oid, con.conrelid, con.conname FROM pg_constraint con
    JOIN part p ON con.conparentid = p.oid AND con.conrelid = p.conrelid
)
SELECT conname FROM part WHERE NOT starts_with(conname, %(name)s) ORDER BY oid
