-- name: mapping_values
-- What the user mapping is made of, until the transaction ends.
SELECT set_config('confiture.mapping_server', %(server)s, true) IS NULL,
       set_config('confiture.mapping_user', %(user)s, true) IS NULL,
       set_config('confiture.mapping_password', %(password)s, true) IS NULL

-- name: create_mapping
-- CREATE USER MAPPING from those values; an error tells its message only, never the statement.
DO $$
DECLARE
    password text := nullif(current_setting('confiture.mapping_password'), '');
BEGIN
    EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER %I OPTIONS (user %L%s)',
                   current_setting('confiture.mapping_server'), current_setting('confiture.mapping_user'),
                   coalesce(', password ' || quote_literal(password), ''));
EXCEPTION WHEN OTHERS THEN
    RAISE USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM;
END
$$
