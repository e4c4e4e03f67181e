-- name: mapping_table
-- The values of the user mapping are copied to this table with COPY: no log of statements or parameters shows its data.
CREATE TEMP TABLE confiture_mapping (server text, username text, password text) ON COMMIT DROP

-- name: mapping_values
-- In binary form the server does not quote the data in an error either.
COPY pg_temp.confiture_mapping FROM STDIN (FORMAT BINARY)

-- name: encrypted
-- Whether the foreign server's session is encrypted, or comes through a socket of the source's own machine.
SELECT bool_and(s.ssl OR a.client_addr IS NULL)
FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE a.application_name = %(name)s AND a.usename = session_user

-- name: self_view
-- The server process that reads the view.
CREATE OR REPLACE VIEW {view} AS SELECT a.pid, extract(epoch FROM a.backend_start)::text AS started
FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()

-- name: create_mapping
-- CREATE USER MAPPING from those values; an error reports its message only, never the statement.
DO $$
DECLARE
    statement text;
BEGIN
    SELECT format('CREATE USER MAPPING FOR CURRENT_USER SERVER %I OPTIONS (user %L%s)',
                  server, username, ', password ' || quote_literal(nullif(password, '')))
    INTO STRICT statement FROM pg_temp.confiture_mapping;
    EXECUTE statement;
    DROP TABLE pg_temp.confiture_mapping;
EXCEPTION WHEN OTHERS THEN
    RAISE USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM;
END
$$
