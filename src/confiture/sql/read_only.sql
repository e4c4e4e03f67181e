-- name: by_server
-- Whether the server's configuration makes transactions read-only. A setting of the role or of the database hides it.
SELECT s.reset_val = 'on' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_db_role_setting AS d, pg_catalog.unnest(d.setconfig) AS c
    WHERE d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database AS b WHERE b.datname = current_database()))
      AND d.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = session_user))
      AND pg_catalog.starts_with(c, 'default_transaction_read_only='))
FROM pg_catalog.pg_settings AS s
WHERE s.name = 'default_transaction_read_only'
