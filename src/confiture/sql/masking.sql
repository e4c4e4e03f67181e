-- name: mac
-- HMAC-SHA-256 of a text. Each setting is read once for a statement, not once for a row, because it is a subquery.
pg_catalog.sha256((SELECT pg_catalog.current_setting('confiture.mask_outer')::pg_catalog.bytea) || pg_catalog.sha256((SELECT pg_catalog.current_setting('confiture.mask_inner')::pg_catalog.bytea) || pg_catalog.convert_to({value}, 'UTF8')))

-- name: short
-- SHA-256 of a secret block and a text; at most 16 of its bytes may be used.
pg_catalog.sha256((SELECT pg_catalog.current_setting('confiture.mask_block')::pg_catalog.bytea) || pg_catalog.convert_to({value}, 'UTF8'))

-- name: hex
-- The first digits of the HMAC.
pg_catalog.left(pg_catalog.encode({mac}, 'hex'), {length})

-- name: letters
-- Letters and digits of the HMAC, where there is no room for enough hexadecimal digits: nearly six bits each.
pg_catalog.left(pg_catalog.translate(pg_catalog.encode({mac}, 'base64'), '+/=', 'xyz'), {length})

-- name: email
-- A local part from the HMAC, at a domain that is reserved, so that no mail can be delivered. RFC 2606.
CASE WHEN {value} = '' THEN '' ELSE 'u' || {local} || {domain} END

-- name: uuid
-- 16 bytes of the HMAC in the form of version 4.
pg_catalog.encode(pg_catalog.set_byte(pg_catalog.set_byte(pg_catalog.substr({mac}, 1, 16), 6, 64), 8, 128), 'hex')::pg_catalog.uuid

-- name: bytes
-- The first bytes of the HMAC.
pg_catalog.substr({mac}, 1, {length})

-- name: json
-- A string.
pg_catalog.to_json(pg_catalog.left(pg_catalog.encode({mac}, 'hex'), {length}))

-- name: integer
-- A permutation of the integers of so many bits: a Feistel network of four rounds over two halves. The bit above is
-- inverted, so that small numbers become large ones, which no sequence of the application is near to.
(SELECT CASE WHEN n.v < 0 THEN ~n.m ELSE n.m END FROM (SELECT s.v, (s.a & {above}) # {flip} | (s.l << {half}) | s.r AS m FROM {rounds} AS s OFFSET 0) AS n)

-- name: halves
-- The halves of a number; a negative one is inverted.
(SELECT i.v, i.a, (i.a >> {half}) & {mask} AS l, i.a & {mask} AS r FROM (SELECT o.v, CASE WHEN o.v < 0 THEN ~o.v ELSE o.v END AS a FROM (SELECT {value}::bigint AS v OFFSET 0) AS o OFFSET 0) AS i OFFSET 0)

-- name: round
-- One round.
(SELECT p.v, p.a, p.r AS l, p.l # (('x' || pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256((SELECT pg_catalog.current_setting('confiture.mask_block')::pg_catalog.bytea) || pg_catalog.int8send({number} | p.r)), 1, 4), 'hex'))::bit(32)::bigint & {mask}) AS r FROM {before} AS p OFFSET 0)

-- name: inet
-- A private address of the same family and with the same length of the network part. RFC 1918, RFC 4193.
(SELECT pg_catalog.set_masklen((CASE pg_catalog.family({column}) WHEN 4 THEN '10.' || pg_catalog.get_byte(a.h, 0)::pg_catalog.text || '.' || pg_catalog.get_byte(a.h, 1)::pg_catalog.text || '.' || pg_catalog.get_byte(a.h, 2)::pg_catalog.text ELSE pg_catalog.rtrim(pg_catalog.regexp_replace('fd' || pg_catalog.encode(pg_catalog.substr(a.h, 1, 15), 'hex'), '(....)', '\1:', 'g'), ':') END)::pg_catalog.inet, pg_catalog.masklen({column})) FROM (SELECT {mac} AS h OFFSET 0) AS a)

-- name: macaddr
-- A locally administered address.
('02' || pg_catalog.encode(pg_catalog.substr({mac}, 1, {length}), 'hex'))::{type}

-- name: phone
-- Other digits in the same form. The country code after + or 00 is kept.
(SELECT CASE WHEN q.n = 0 THEN q.v ELSE q.prefix || pg_catalog.to_char(pg_catalog.left(pg_catalog.rpad(q.digits, q.n, q.digits), q.n)::numeric, 'FM' || pg_catalog.translate(pg_catalog.regexp_replace(pg_catalog.translate(q.rest, '"\', '''/'), '[^0-9]+', '"\&"', 'g'), '123456789', '000000000')) END FROM (SELECT p.v, p.prefix, p.rest, p.digits, pg_catalog.length(p.rest) - pg_catalog.length(pg_catalog.translate(p.rest, '0123456789', '')) AS n FROM (SELECT o.v, o.prefix, pg_catalog.substr(o.v, 1 + pg_catalog.length(o.prefix)) AS rest, pg_catalog.translate(pg_catalog.encode(pg_catalog.substr({short}, 1, 16), 'hex'), 'abcdef', '246813') AS digits FROM (SELECT {value} AS v, {prefix} AS prefix OFFSET 0) AS o OFFSET 0) AS p OFFSET 0) AS q)

-- name: country
-- The country code at the beginning of a telephone number, or the zero of a national number; else empty. ITU-T E.164.
CASE WHEN pg_catalog.ascii({value}) IN (43, 48) THEN COALESCE(pg_catalog."substring"({value}, '^(?:\+|00)(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[0-9][0-9][0-9])|^0'), '') ELSE '' END

-- name: postcode
-- Other digits in the same form, and X for letters.
pg_catalog.translate({digits}, 'ABCDEFGHIJKLMNOPQRSTUVWYZabcdefghijklmnopqrstuvwyz', 'XXXXXXXXXXXXXXXXXXXXXXXXXxxxxxxxxxxxxxxxxxxxxxxxxx')

-- name: listed
-- An entry of a list, chosen by one byte.
CASE WHEN {value} = '' THEN '' ELSE ({list}::pg_catalog.text[])[1 + pg_catalog.mod(pg_catalog.get_byte({short}, 0), {length})] END

-- name: full_name
-- Two entries of lists.
(SELECT CASE WHEN n.v = '' THEN '' ELSE ({first}::pg_catalog.text[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 0), {first_length})] || ' ' || ({last}::pg_catalog.text[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 1), {last_length})] END FROM (SELECT {value} AS v, {short} AS h OFFSET 0) AS n)

-- name: street
-- A number and a street.
(SELECT CASE WHEN n.v = '' THEN '' ELSE (1 + pg_catalog.get_byte(n.h, 0))::pg_catalog.text || ' ' || ({streets}::pg_catalog.text[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 1), {streets_length})] END FROM (SELECT {value} AS v, {short} AS h OFFSET 0) AS n)

-- name: full_address
-- A number, a street and a city.
(SELECT CASE WHEN n.v = '' THEN '' ELSE (1 + pg_catalog.get_byte(n.h, 0))::pg_catalog.text || ' ' || ({streets}::pg_catalog.text[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 1), {streets_length})] || ', ' || ({cities}::pg_catalog.text[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 2), {cities_length})] END FROM (SELECT {value} AS v, {short} AS h OFFSET 0) AS n)

-- name: short_enough
-- The beginning of a masked text, for a column with a length.
pg_catalog.rtrim(pg_catalog.left({expression}, {length}))

-- name: text
-- The shape of a text: X for capitals, x for other letters, 0 for digits. White space and punctuation of ASCII stay.
CASE WHEN pg_catalog.octet_length({value}) = pg_catalog.length({value}) THEN {ascii} ELSE pg_catalog.regexp_replace({ascii} COLLATE pg_catalog."C", '[^\x01-\x7f]', 'x', 'g') END

-- name: ascii
-- The shape of its ASCII characters.
pg_catalog.translate({value}, 'ABCDEFGHIJKLMNOPQRSTUVWYZabcdefghijklmnopqrstuvwyz123456789', 'XXXXXXXXXXXXXXXXXXXXXXXXXxxxxxxxxxxxxxxxxxxxxxxxxx000000000')

-- name: share
-- A fraction from -1 to 1.
(('x' || pg_catalog.encode(pg_catalog.substr({short}, 1, 3), 'hex'))::bit(24)::integer / 8388607.5::{type} - 1)

-- name: noisy_integer
-- A number near another one, in the range of the type.
CASE WHEN {column} IS NULL THEN NULL ELSE LEAST(GREATEST(pg_catalog.round({column} * (1 + {fraction} * {share})), {least}), {most})::{type} END

-- name: noisy_numeric
-- A number near another one, with as many digits behind the point.
CASE WHEN {column} IS NULL OR {column} = ANY ('{{NaN,Infinity,-Infinity}}'::numeric[]) THEN {column} ELSE {bounded} END

-- name: noisy_scaled
-- With the scale of the value or of the column.
pg_catalog.round({column} * (1 + {fraction} * {share}), {scale})

-- name: within
-- Not beyond the largest number of the column.
LEAST(GREATEST({expression}, -{most}), {most})

-- name: noisy_float
-- A number near another one. The largest ones are decreased, so that nothing overflows.
(SELECT (CASE WHEN f.v IN ('NaN', 'Infinity', '-Infinity') THEN f.v WHEN pg_catalog.abs(f.v) > {most} THEN f.v * (1 - pg_catalog.abs(f.s)) ELSE f.v * (1 + f.s) END)::{type} FROM (SELECT {column}::double precision AS v, {fraction} * {share} AS s OFFSET 0) AS f)

-- name: shift
-- A number of days other than 0.
(SELECT CASE WHEN s.n < {days} THEN s.n - {days} ELSE s.n - {days} + 1 END FROM (SELECT pg_catalog.mod(('x' || pg_catalog.encode(pg_catalog.substr({short}, 1, 3), 'hex'))::bit(24)::integer, 2 * {days}) AS n OFFSET 0) AS s)

-- name: shifted_date
-- A date some days away. A date beyond the year 9000 stands for the end of time and stays, as infinity does.
CASE WHEN {column} BETWEEN '0002-01-01' AND '9000-01-01' THEN {column} + {shift} ELSE {column} END

-- name: shifted_time
-- A time stamp some days away, at the same time of day in UTC.
CASE WHEN {column} BETWEEN '0002-01-01' AND '9000-01-01' THEN {column} + pg_catalog.make_interval(hours => 24 * {shift}) ELSE {column} END

-- name: salted
-- A salted hash of a value as text.
pg_catalog.substr(pg_catalog.sha256(%(salt)s::pg_catalog.bytea || pg_catalog.convert_to({value}, 'UTF8')), 1, 16)

-- name: result_hashes
-- The hashes of the distinct values of a masked column in the target, without those that the rule itself produces.
SELECT DISTINCT {hash} FROM {table} WHERE {column} IS NOT NULL AND NOT ({made})

-- name: hashes_of_few_values
-- The same, where a condition that takes long is evaluated once for equal values.
-- OFFSET 0: the server would evaluate it before DISTINCT.
SELECT DISTINCT {hash}
FROM (SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL OFFSET 0) AS d WHERE NOT ({made})

-- name: source_hashes
-- How many of the hashes are those of values of the source. The array is searched by hashing.
SELECT pg_catalog.count(DISTINCT s.h) FROM (SELECT {hash} AS h FROM {table} WHERE {column} IS NOT NULL) AS s
WHERE s.h = ANY (%(hashes)s::pg_catalog.bytea[])

-- name: hashes_of_values
-- The hashes of the values of the column on the source.
SELECT {hash} FROM {table} WHERE {column} IS NOT NULL

-- name: has_shape_only
-- The value has no letter and no digit but those of a masked text.
{value} = '' OR {value} COLLATE pg_catalog."C" !~ '[^Xx0[:space:][:punct:]]'

-- name: is_listed
-- The value consists of entries of the lists.
{value} = '' OR {value} ~ ('^(?:' || {pattern} || ')$')
