-- name: objects
-- Every top-level object that a user's DDL can create, with its name as DROP expects it, oldest first.
SELECT kind, identity FROM (
    SELECT n.oid, 'schema' AS kind, format('%I', n.nspname) AS identity
    FROM pg_namespace n WHERE n.nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid
                      AND e.deptype = 'e')
    UNION ALL
    SELECT c.oid, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                                 WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type' ELSE 'table' END,
           format('%I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND NOT c.relispartition
      AND n.nspname !~ '^(pg_|information_schema$|confiture$|confiture_[0-9a-f]{8}$)'
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                      AND (e.deptype = 'e' OR (e.deptype IN ('a', 'i') AND c.relkind = 'S')))
    UNION ALL
    SELECT t.oid, CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, format('%I.%I', n.nspname, t.typname)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd', 'r') AND n.nspname !~ '^(pg_|information_schema$|confiture)'
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid
                      AND e.deptype IN ('e', 'i'))
    UNION ALL
    SELECT p.oid, CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END,
           format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname !~ '^(pg_|information_schema$|confiture)'
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid
                      AND e.deptype IN ('e', 'i'))
    UNION ALL
    SELECT c.oid, 'collation', format('%I.%I', n.nspname, c.collname)
    FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE n.nspname !~ '^(pg_|information_schema$|confiture)'
    UNION ALL
    SELECT e.oid, 'extension', format('%I', e.extname) FROM pg_extension e
    UNION ALL
    SELECT p.oid, 'publication', format('%I', p.pubname) FROM pg_publication p
    UNION ALL
    SELECT t.oid, 'event trigger', format('%I', t.evtname) FROM pg_event_trigger t
    WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_event_trigger'::regclass AND e.objid = t.oid
                      AND e.deptype = 'e')
) o ORDER BY oid
