-- name: run_triggers
-- Every trigger of a run, found by the schema of its function: a table may have been renamed, a trigger too, and a
-- partition that was detached keeps its own. A trigger that a partition inherits belongs to its root's.
SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t
JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgparentid = 0 AND p.pronamespace = to_regnamespace(quote_ident(%(schema)s))
  AND p.proname LIKE %(functions)s
ORDER BY 1, 2, 3

-- name: partitions
-- Every partition below a table, on each level.
SELECT n.nspname, c.relname FROM pg_partition_tree(%(table)s::regclass) t
JOIN pg_class c ON c.oid = t.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.level > 0
