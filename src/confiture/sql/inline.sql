-- name: files
-- The files of a table, its partitions and its inheritance children. Functions read them as they are now; a query of
-- pg_class would show those of the snapshot.
WITH RECURSIVE tree AS (
    SELECT %(table)s::regclass::oid AS oid
    UNION
    SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid
)
SELECT ARRAY(
    SELECT coalesce(pg_relation_filenode(f.oid), 0)::bigint
    FROM (
        SELECT t.oid FROM tree t
        UNION
        SELECT p.relid::oid FROM pg_partition_tree(%(table)s::regclass) p
    ) f
    ORDER BY f.oid
)
