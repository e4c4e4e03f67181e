-- name: locks
-- The relations of the database, each of which needs a lock while it is created, and the locks that the server has room for.
SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384)::int,
       current_setting('max_locks_per_transaction')::int
           * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)

-- name: leftovers
-- The scratch databases of commands that were killed, by their name or their comment.
SELECT d.datname::text FROM pg_database d
WHERE d.datname = %(name)s OR shobj_description(d.oid, 'pg_database') = %(mark)s

-- name: roles
-- The statements that create the roles of the server, without passwords.
SELECT concat_ws(' ', 'CREATE ROLE', quote_ident(rolname), CASE WHEN rolsuper THEN 'SUPERUSER' END,
           CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
           CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END)
FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY oid

-- name: memberships
-- The members of roles.
SELECT DISTINCT pg_get_userbyid(roleid)::text, pg_get_userbyid(member)::text FROM pg_auth_members
WHERE pg_get_userbyid(member) !~ '^pg_' ORDER BY 1, 2

-- name: owner
-- The owner of the database.
SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()
