-- name: largest
-- The row with the most bytes: its key as text, and the bytes of each column in the form in which it is transferred. The
-- length of a large value is known without reading the value.
SELECT keys, sizes FROM (
    SELECT ARRAY[{keys}]::text[] AS keys, ARRAY[{sizes}]::bigint[] AS sizes FROM {rows} v {joined} WHERE {condition}
) measured
ORDER BY (SELECT sum(size) FROM unnest(sizes) size) DESC LIMIT 1
