-- name: mac
-- HMAC-SHA-256 of a text, for a hash with more than 32 hexadecimal digits. Each setting is read once for a statement, not
-- once for a row, because it is a subquery.
pg_catalog.sha256((SELECT pg_catalog.current_setting('confiture.mask_outer')::pg_catalog.bytea) || pg_catalog.sha256((SELECT pg_catalog.current_setting('confiture.mask_inner')::pg_catalog.bytea) || pg_catalog.textsend({value})))

-- name: short
-- SHA-256 of a secret and a text: one block for most values. At most 16 of its bytes are used. The setting is read once.
pg_catalog.sha256((SELECT pg_catalog.current_setting({setting})::pg_catalog.bytea) || pg_catalog.textsend({value}))

-- name: hex
-- The first bytes of a hash as hexadecimal digits.
pg_catalog.encode(pg_catalog.substr({hash}, 1, {bytes}), 'hex')

-- name: odd_hex
-- An odd number of hexadecimal digits of a hash.
pg_catalog.left(pg_catalog.encode({hash}, 'hex'), {length})

-- name: letters
-- Letters and digits of a hash, where there is no room for enough hexadecimal digits: nearly six bits each.
pg_catalog.left(pg_catalog.translate(pg_catalog.encode({hash}, 'base64'), '+/=', 'xyz'), {length})

-- name: email
-- A local part from a hash, at a domain that is reserved, so that no mail can be delivered. RFC 2606.
CASE WHEN {value} = '' THEN '' ELSE 'u' || {local} || {domain} END

-- name: uuid
-- 16 bytes of a hash in the form of version 4.
pg_catalog.encode(pg_catalog.set_byte(pg_catalog.set_byte(pg_catalog.substr({hash}, 1, 16), 6, 64), 8, 128), 'hex')::pg_catalog.uuid

-- name: bytes
-- The first bytes of a hash.
pg_catalog.substr({hash}, 1, {length})

-- name: json
-- A string.
pg_catalog.to_json({digits})

-- name: integer
-- A permutation of the integers of so many bits: a Feistel network of four rounds over two halves. The bit above is
-- inverted, so that small numbers become large ones, which no sequence of the application is near to.
(SELECT CASE WHEN n.v < 0 THEN ~n.m ELSE n.m END FROM (SELECT s.v, (s.a & {above}) # {flip} | (s.l << {half}) | s.r AS m FROM {rounds} AS s OFFSET 0) AS n)

-- name: halves
-- The halves of a number; a negative one is inverted.
(SELECT i.v, i.a, (i.a >> {half}) & {mask} AS l, i.a & {mask} AS r FROM (SELECT o.v, CASE WHEN o.v < 0 THEN ~o.v ELSE o.v END AS a FROM (SELECT {value}::bigint AS v OFFSET 0) AS o OFFSET 0) AS i OFFSET 0)

-- name: round
-- One round.
(SELECT p.v, p.a, p.r AS l, p.l # (('x' || pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256((SELECT pg_catalog.current_setting('confiture.mask_short')::pg_catalog.bytea) || pg_catalog.int8send({number} | p.r)), 1, 4), 'hex'))::bit(32)::bigint & {mask}) AS r FROM {before} AS p OFFSET 0)

-- name: inet
-- A private address of the same family and with the same length of the network part. RFC 1918, RFC 4193.
(SELECT pg_catalog.set_masklen((CASE pg_catalog.family({column}) WHEN 4 THEN '10.' || pg_catalog.get_byte(a.h, 0)::pg_catalog.text || '.' || pg_catalog.get_byte(a.h, 1)::pg_catalog.text || '.' || pg_catalog.get_byte(a.h, 2)::pg_catalog.text ELSE pg_catalog.rtrim(pg_catalog.regexp_replace('fd' || pg_catalog.encode(pg_catalog.substr(a.h, 1, 15), 'hex'), '(....)', '\1:', 'g'), ':') END)::pg_catalog.inet, pg_catalog.masklen({column})) FROM (SELECT {hash} AS h OFFSET 0) AS a)

-- name: macaddr
-- A locally administered address.
('02' || pg_catalog.encode(pg_catalog.substr({hash}, 1, {length}), 'hex'))::{type}

-- name: phone
-- Other digits in the same form, behind a beginning that is kept. What is no digit is copied by to_char(), and is quoted
-- if it may have a meaning there. p: the text, its rest with a 0 for each digit, and the hash, whose first 56 bits are
-- the number. There is no number for no digit, nor for more than 15.
-- btrim() of bytea and octet_length() look at bytes, where their forms for text decode each character.
(SELECT COALESCE(pg_catalog.left(p.v, pg_catalog.length(p.v) - pg_catalog.length(p.form)) || pg_catalog.to_char(pg_catalog.mod((pg_catalog.get_byte(p.h, 0)::bigint << 48) | (pg_catalog.get_byte(p.h, 1)::bigint << 40) | (pg_catalog.get_byte(p.h, 2)::bigint << 32) | (pg_catalog.get_byte(p.h, 3)::bigint << 24) | (pg_catalog.get_byte(p.h, 4)::bigint << 16) | (pg_catalog.get_byte(p.h, 5)::bigint << 8) | pg_catalog.get_byte(p.h, 6), ('{{10,100,1000,10000,100000,1000000,10000000,100000000,1000000000,10000000000,100000000000,1000000000000,10000000000000,100000000000000,1000000000000000}}'::bigint[])[pg_catalog.octet_length(p.form) - pg_catalog.octet_length(pg_catalog.replace(p.form, '0', ''))]), 'FM' || CASE WHEN pg_catalog.btrim(pg_catalog.textsend(p.form), '0 ()+-/'::pg_catalog.bytea) = '' THEN p.form ELSE pg_catalog.regexp_replace(pg_catalog.translate(p.form, '"\', '''/'), '[^0]+', '"\&"', 'g') END), CASE WHEN pg_catalog.strpos(p.form, '0') = 0 THEN p.v ELSE pg_catalog.left(p.v, pg_catalog.length(p.v) - pg_catalog.length(p.form)) || p.form END) FROM (SELECT {value} COLLATE pg_catalog."C" AS v, pg_catalog.translate(pg_catalog.substr({value}, 1 + {kept}), '123456789', '000000000') COLLATE pg_catalog."C" AS form, {short} AS h OFFSET 0) AS p)

-- name: country
-- The length of what is kept of a telephone number: + or 00 with the country code (ITU-T E.164), or a zero.
CASE pg_catalog.ascii({value}) WHEN 43 THEN 1 + {code_at_2} WHEN 48 THEN CASE WHEN pg_catalog.substr({value}, 2, 1) = '0' THEN 2 + {code_at_3} ELSE 1 END ELSE 0 END

-- name: country_code
-- The digits of the country code at a place.
CASE WHEN pg_catalog.substr({value}, {place}, 2) = ANY ('{{20,27,30,31,32,33,34,36,39,40,41,43,44,45,46,47,48,49,51,52,53,54,55,56,57,58,60,61,62,63,64,65,66,81,82,84,86,90,91,92,93,94,95,98}}'::pg_catalog.text[]) THEN 2 WHEN pg_catalog.substr({value}, {place}, 1) IN ('1', '7') THEN 1 ELSE 3 END

-- name: hiding_letters
-- A text with digits, in which letters and characters beyond ASCII become x: another text may stand in place of a
-- telephone number. btrim() of bytea looks at bytes, where that of text decodes each character.
CASE WHEN pg_catalog.btrim(pg_catalog.textsend({value}), '0123456789 ()+-/.'::pg_catalog.bytea) = '' THEN {digits} ELSE pg_catalog.regexp_replace(pg_catalog.translate({digits}, 'eaotinsrhldcumfpgwybvkjqzETAOINSRHLDCUMFPGWYBVKJQZX', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx') COLLATE pg_catalog."C", '[^\x01-\x7f]', 'x', 'g') END

-- name: postcode
-- Other digits in the same form, and X for letters; x for characters beyond ASCII.
CASE WHEN {value} COLLATE pg_catalog."C" ~ '[^0-9 -]' THEN pg_catalog.regexp_replace(pg_catalog.translate({digits}, 'ESLWNRCBTDPGHAMKOUYIVFQJZeslwnrcbtdpghamkouyivfqjz', 'XXXXXXXXXXXXXXXXXXXXXXXXXxxxxxxxxxxxxxxxxxxxxxxxxx') COLLATE pg_catalog."C", '[^\x01-\x7f]', 'x', 'g') ELSE {digits} END

-- name: listed
-- An entry of a list, chosen by one byte.
CASE WHEN {value} = '' THEN '' ELSE ({list}::pg_catalog.name[])[1 + pg_catalog.mod(pg_catalog.get_byte({short}, 0), {length})]::pg_catalog.text END

-- name: full_name
-- Two entries of lists.
CASE WHEN {value} = '' THEN '' ELSE (SELECT ({first}::pg_catalog.name[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 0), {first_length})]::pg_catalog.text || ' ' || ({last}::pg_catalog.name[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 1), {last_length})]::pg_catalog.text FROM (SELECT {short} AS h OFFSET 0) AS n) END

-- name: street
-- A number and a street.
CASE WHEN {value} = '' THEN '' ELSE (SELECT (1 + pg_catalog.get_byte(n.h, 0))::pg_catalog.text || ' ' || ({streets}::pg_catalog.name[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 1), {streets_length})]::pg_catalog.text FROM (SELECT {short} AS h OFFSET 0) AS n) END

-- name: full_address
-- A number, a street and a city.
CASE WHEN {value} = '' THEN '' ELSE (SELECT (1 + pg_catalog.get_byte(n.h, 0))::pg_catalog.text || ' ' || ({streets}::pg_catalog.name[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 1), {streets_length})]::pg_catalog.text || ', ' || ({cities}::pg_catalog.name[])[1 + pg_catalog.mod(pg_catalog.get_byte(n.h, 2), {cities_length})]::pg_catalog.text FROM (SELECT {short} AS h OFFSET 0) AS n) END

-- name: short_enough
-- The beginning of a masked text, for a column with a length.
pg_catalog.rtrim(pg_catalog.left({expression}, {length}))

-- name: text
-- The shape of a text: X for capitals, x for other letters, 0 for digits. White space and punctuation of ASCII stay.
CASE WHEN pg_catalog.octet_length({value}) = pg_catalog.length({value}) THEN {ascii} ELSE pg_catalog.regexp_replace({ascii} COLLATE pg_catalog."C", '[^\x01-\x7f]', 'x', 'g') END

-- name: ascii
-- The shape of its ASCII characters. The frequent ones come first, because the function looks for each one by one.
pg_catalog.translate({value}, ' eaotinsrhldcumfpgwybvkjqz.,-123456789ETAOINSRHLDCUMFPGWYBVKJQZ', ' xxxxxxxxxxxxxxxxxxxxxxxxx.,-000000000XXXXXXXXXXXXXXXXXXXXXXXXX')

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
-- A number of days other than 0, from a list.
({shifts}::integer[])[1 + pg_catalog.mod(('x' || pg_catalog.encode(pg_catalog.substr({short}, 1, 3), 'hex'))::bit(24)::integer, {length})]

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
SELECT pg_catalog.count(DISTINCT s.h) FROM (
{values}
) AS s(h) WHERE s.h = ANY (%(hashes)s::pg_catalog.bytea[])

-- name: hashes_of_values
-- The hashes of the values of the column on the source.
SELECT {hash} FROM {table} WHERE {column} IS NOT NULL

-- name: has_shape_only
-- The value has no letter and no digit but those of a masked text.
{value} = '' OR {value} COLLATE pg_catalog."C" !~ '[^Xx0[:space:][:punct:]]'

-- name: is_entry
-- The value is an entry of a list, which is searched by hashing, or empty.
{value} = ANY ({list}::pg_catalog.text[])

-- name: is_full_name
-- The value is a first and a last name of the lists.
pg_catalog.split_part({value}, ' ', 1) = ANY ({first}::pg_catalog.text[]) AND pg_catalog.split_part({value}, ' ', 2) = ANY ({last}::pg_catalog.text[]) AND pg_catalog.split_part({value}, ' ', 3) = ''

-- name: is_address
-- The value is a number below 257 and a street of the list, with a city of the list or without one.
pg_catalog.split_part({value}, ' ', 1) COLLATE pg_catalog."C" ~ '^[0-9]{{0,3}}$' AND pg_catalog.ltrim(pg_catalog.split_part({value}, ',', 1), '0123456789 ') = ANY ({streets}::pg_catalog.text[]) AND pg_catalog.ltrim(pg_catalog.split_part({value}, ',', 2)) = ANY ({cities}::pg_catalog.text[]) AND pg_catalog.split_part({value}, ',', 3) = ''
