-- name: function
-- Whether a text can be converted to an encoding on its way through UTF-8, in which confiture's sessions transfer it.
CREATE OR REPLACE FUNCTION pg_temp.confiture_fits(value text, encoding name) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.convert(pg_catalog.convert_to(value, 'UTF8'), 'UTF8', encoding);
    RETURN true;
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN false;
END $$

-- name: first
-- A row with a text that cannot be converted: its key, where a part that is no text is shown as bytes, and the column.
SELECT ARRAY[{keys}]::text[], CASE {columns} END, getdatabaseencoding()::text FROM {view} v {joined}
WHERE ({condition}) AND NOT ({fits}) LIMIT 1

-- name: shown
-- A value as text, or as bytes.
CASE WHEN {value} IS NULL OR pg_temp.confiture_fits({value}::text, {encoding}) THEN {value}::text
     ELSE convert_to({value}::text, getdatabaseencoding())::text END

-- name: discard_keys
-- No row has such a key any more, and the other side can have none.
DELETE FROM {changed} WHERE NOT truncated AND NOT ({fits})
