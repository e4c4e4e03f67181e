-- name: objects
-- Large objects in the order of their OIDs, with their sizes. The size is known only after the object was opened; each
-- step is a CTE, so that a descriptor is closed after it was read.
WITH wanted AS MATERIALIZED (
    SELECT m.oid, m.lomowner, coalesce(m.lomacl, acldefault('L', m.lomowner)) AS acl FROM pg_largeobject_metadata m
    WHERE m.oid > %(after)s::oid AND m.oid <= %(until)s::oid ORDER BY m.oid LIMIT %(most)s
), opened AS MATERIALIZED (
    SELECT w.*, lo_open(w.oid, 262144) AS descriptor FROM wanted w  -- 262144: INV_READ
), sized AS MATERIALIZED (
    SELECT o.*, lo_lseek64(o.descriptor, 0, 2) AS size FROM opened o
), closed AS MATERIALIZED (
    SELECT s.*, lo_close(s.descriptor) AS closed FROM sized s
)
SELECT oid::bigint, size, pg_get_userbyid(lomowner), obj_description(oid, 'pg_largeobject'),
       coalesce((SELECT jsonb_agg(jsonb_build_array(a.grantee, a.privilege_type, a.is_grantable)
                                  ORDER BY a.grantee, a.privilege_type)
                 FROM (SELECT CASE WHEN x.grantee <> 0 THEN pg_get_userbyid(x.grantee) END AS grantee,
                              x.privilege_type, bool_or(x.is_grantable) AS is_grantable
                       FROM aclexplode(acl) x GROUP BY 1, 2) a), '[]')
FROM closed ORDER BY oid

-- name: contents
-- The digest of the content of some large objects: MD5 of the MD5 of each piece, so that none is read as a whole.
SELECT o.oid::bigint, md5(coalesce((
           SELECT string_agg(md5(lo_get(o.oid, p.at, %(piece)s)), '' ORDER BY p.at)
           FROM generate_series(0, o.size - 1, %(piece)s) p(at)), ''))
FROM unnest(%(oids)s::oid[], %(sizes)s::bigint[]) o(oid, size)

-- name: recorded
-- The large objects that the run has copied, as they were then.
SELECT oid::bigint, facts FROM {schema}.large_object WHERE oid > %(after)s::oid AND oid <= %(until)s::oid

-- name: record
-- Record copied large objects, in the transaction that copies them.
INSERT INTO {schema}.large_object SELECT * FROM unnest(%(oids)s::oid[], %(facts)s::jsonb[])
ON CONFLICT (oid) DO UPDATE SET facts = excluded.facts

-- name: owned
-- Some large objects by owner.
SELECT pg_get_userbyid(lomowner), array_agg(oid::bigint) FROM pg_largeobject_metadata
WHERE oid = ANY (%(oids)s::oid[]) GROUP BY lomowner

-- name: granted
-- The privileges that default privileges have given to large objects that were just created (PostgreSQL 18).
SELECT m.oid::bigint, array_agg(DISTINCT CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END)
FROM pg_largeobject_metadata m, aclexplode(m.lomacl) a WHERE m.oid = ANY (%(oids)s::oid[]) GROUP BY m.oid

-- name: role
-- The role of the session, and whether it is a superuser.
SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user

-- name: being_changed
-- Whether another session has a lock on a large object. One that removes an object, or changes its owner, holds it until
-- its transaction ends, but holds no lock on the catalogs.
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_largeobject'::regclass AND granted
               AND pid <> pg_backend_pid()
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
