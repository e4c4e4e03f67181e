-- The queries that compare the rows of both databases (compare/checksum.py).
-- {table}: the view of the source, or the table of the target. {hash}: the hash of a row.

-- name: hash
-- The hash of a row. It is hashed twice: a single hash is linear, and values swapped between rows would cancel (I-6.1).
hash_record_extended(ROW(int8send(hash_record_extended({row}, 0))), 0)

-- name: hash_by_md5
-- The hash of a row where the servers disagree on hash_record_extended.
('x' || left(md5(({row})::text), 16))::bit(64)::bigint

-- name: range_sum
-- Count and combined hashes of the rows in a range of keys. OFFSET 0 keeps the planner from merging the subquery into the
-- query, which would evaluate the hash, and on the source the transforms, once for each aggregate.
SELECT count(*), coalesce(sum(h), 0)::text, coalesce(bit_xor(h), 0)::text
FROM (SELECT {hash} AS h FROM {table} WHERE {condition} OFFSET 0) hashed

-- name: bucket_sums
-- The same for each bucket of rows, in one scan.
SELECT b, count(*), sum(h)::text, bit_xor(h)::text
FROM (SELECT {hash} AS h, {bucket} AS b FROM {table} WHERE {condition} OFFSET 0) hashed
GROUP BY b

-- name: row_hashes
-- The hash of each row, with its key as text.
SELECT {hash}, {key_texts} FROM {table} WHERE {condition}

-- name: row_values
-- The columns of a row as text, each in two forms. One array holds them, because a SELECT is limited to 1664 columns.
SELECT ARRAY[{texts}]::text[] FROM {table} WHERE {condition}

-- name: shown
-- A value as text.
({value})::text

-- name: shown_text
-- A value as text; a long one by its length and digest.
CASE WHEN octet_length(({value})::text) > {most}
     THEN format('%s bytes, MD5 %s', octet_length(({value})::text), md5(({value})::text)) ELSE ({value})::text END

-- name: shown_bytea
-- The same of bytea, whose text has twice as many bytes.
CASE WHEN octet_length({value}) > {most}
     THEN format('%s bytes, MD5 %s', octet_length({value}), md5({value})) ELSE ({value})::text END

-- name: row_texts
-- The hash and the text of each row of a table without a key.
SELECT {hash}, left((ROW({values}))::text, 2000) FROM {table} WHERE {condition}
