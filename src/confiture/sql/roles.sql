-- name: may_own
-- The schema (given, or where new objects go) and whether a role may own objects there. A role that does not exist yet
-- has the privileges of PUBLIC.
SELECT n.nspname,
       CASE WHEN r.oid IS NULL THEN pg_catalog.has_schema_privilege('public', n.oid, 'CREATE')
            ELSE pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE') END
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_roles r ON r.rolname = %(role)s
WHERE n.nspname = coalesce(%(schema)s::name, pg_catalog.current_schema())

-- name: closed
-- Schemas that a statement names, or where new objects go, in which the role may not create objects.
SELECT n.nspname FROM pg_catalog.pg_namespace n
WHERE n.nspname = ANY (%(names)s::text[] || coalesce(pg_catalog.current_schema(), 'public')::text)
  AND n.nspname !~ '^(pg_|information_schema$)'
  AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_schema_privilege(n.oid, 'CREATE'))

-- name: unknown
-- Names that no role has.
SELECT name FROM unnest(%(roles)s::text[]) WITH ORDINALITY w(name, n)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = w.name) ORDER BY n
