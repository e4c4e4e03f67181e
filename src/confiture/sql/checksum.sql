-- The queries that compare the rows of both databases (compare/checksum.py).
-- {table}: the view of the source, or the table of the target. {hash}: the hash of a row.

-- name: hash_of_boolean
-- The hash of a column, of 64 bits, and zero for NULL. The seed differs from column to column.
coalesce(hashint4extended(({value})::integer, {seed}), 0)

-- name: hash_of_smallint
-- The same.
coalesce(hashint2extended({value}, {seed}), 0)

-- name: hash_of_integer
-- The same.
coalesce(hashint4extended({value}, {seed}), 0)

-- name: hash_of_bigint
-- The same, with the value as the seed: hashint8extended reduces it to 32 bits (I-6.2).
coalesce(hashint4extended({small_seed}, {value}), 0)

-- name: hash_of_uuid
-- The same.
coalesce(uuid_hash_extended({value}, {seed}), 0)

-- name: hash_of_text
-- The same.
coalesce(hashtextextended({value}, {seed}), 0)

-- name: hash_of_row
-- The same for several columns whose types have no such function. Each column's place counts.
hash_record_extended(ROW({values}), {seed})

-- name: hash_by_md5
-- The hash of a row where the servers disagree on the hashes above.
('x' || left(md5((ROW({values}))::text), 16))::bit(64)::bigint

-- name: mixed
-- One of two numbers that a row adds to the sums, from its hash: without it, values swapped between two rows would cancel
-- (I-6.1). The hash is the seed of a hash, because all of its 64 bits count there.
hashint4extended({seed}, h)

-- name: mixed_by_md5
-- The same where the servers disagree.
('x' || left(md5(({seed})::text || h::text), 16))::bit(64)::bigint

-- name: probe
-- The numbers that a row of literals would add to the sums.
SELECT {first}, {second} FROM (SELECT {hash} AS h OFFSET 0) hashed

-- name: range_sum
-- Count and sums of the rows in a range of keys. OFFSET 0 keeps the planner from merging the subquery into the query, which
-- would evaluate the hash, and on the source the transforms, once for each sum.
SELECT count(*), coalesce(sum({first}), 0)::text, coalesce(sum({second}), 0)::text
FROM (SELECT {hash} AS h FROM {table} WHERE {condition} OFFSET 0) hashed

-- name: bucket_sums
-- The same for each bucket of rows, in one scan.
SELECT b, count(*), sum({first})::text, sum({second})::text
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
