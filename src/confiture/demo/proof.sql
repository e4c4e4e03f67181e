-- name: tb_user
-- The rows as they must be, computed on the old database without the mapping.
SELECT count(*), md5(string_agg(r::text, '|' ORDER BY id)) FROM (
    SELECT id, username AS login_name, name, CASE WHEN display_name IS NULL THEN name ELSE display_name END,
           settings_json::jsonb, created_at FROM tb_user) r

-- name: tb_account
-- Customers that are not deleted.
SELECT count(*), md5(string_agg(r::text, '|' ORDER BY id)) FROM (
    SELECT id, company FROM tb_customer WHERE NOT (deleted_at IS NOT NULL)) r

-- name: tb_post
-- Posts as they are.
SELECT count(*), md5(string_agg(r::text, '|' ORDER BY id)) FROM (
    SELECT id, user_id, title, body, posted_at FROM tb_post) r

-- name: actual
-- The rows of a table of the new database.
SELECT count(*), md5(string_agg(r::text, '|' ORDER BY id)) FROM {} r
