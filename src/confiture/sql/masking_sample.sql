-- name: sample
-- How many values of a sample of a table satisfy each condition. Nothing but counts leaves the source.
SELECT {counts} FROM (SELECT {values} FROM {table}{sampled} LIMIT {rows}) AS s

-- name: value
-- The beginning of a value as text.
pg_catalog.left({column}::pg_catalog.text, 4000) COLLATE pg_catalog."C" AS {alias}

-- name: values
-- The values that are not NULL and not empty.
pg_catalog.count(*) FILTER (WHERE {v} <> '')

-- name: matching
-- Those that satisfy a condition.
pg_catalog.count(*) FILTER (WHERE {condition})

-- name: email
-- Contains an e-mail address.
pg_catalog.strpos({v}, '@') > 1 AND {v} ~ '[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{{2}}'

-- name: email_alone
-- Is an e-mail address.
pg_catalog.strpos({v}, '@') > 1 AND {v} ~ '^\s*[^\s@<>]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{{2,}}\s*$'

-- name: phone
-- Is a telephone number: with + or 00, or with a national form that separates its parts.
{v} ~ '^\s*((\+|00)[1-9][0-9 ()./-]{{6,20}}|\(?0[0-9]{{1,4}}\)?[ /-][0-9][0-9 -]{{4,14}}|\(?[2-9][0-9]{{2}}\)?[ .-][0-9]{{3}}[ .-][0-9]{{4}})\s*(x[0-9]+)?$'

-- name: phone_inside
-- Contains an international telephone number.
pg_catalog.strpos({v}, '+') > 0 AND {v} ~ '(^|[^0-9A-Za-z])\+[1-9][0-9]{{0,2}}[ ()./-]{{0,2}}([0-9][ ()./-]{{0,2}}){{6,12}}($|[^0-9A-Za-z])'

-- name: iban_like
-- Contains a code with the form of an IBAN. ISO 13616.
{v} ~ '\m[A-Z]{{2}}[0-9]{{2}}( ?[A-Z0-9]){{11,30}}\M'

-- name: iban
-- Contains an IBAN: the number that its letters and digits form has the remainder 1 modulo 97.
CASE WHEN {v} ~ '\m[A-Z]{{2}}[0-9]{{2}}( ?[A-Z0-9]){{11,30}}\M' THEN (SELECT pg_catalog.mod(pg_catalog.string_agg(CASE WHEN c.c ~ '[0-9]' THEN c.c ELSE (pg_catalog.ascii(c.c) - 55)::pg_catalog.text END, '' ORDER BY c.n)::numeric, 97) = 1 FROM (SELECT pg_catalog.replace(pg_catalog."substring"({v}, '\m([A-Z]{{2}}[0-9]{{2}}(?: ?[A-Z0-9]){{11,30}})\M'), ' ', '') AS i OFFSET 0) AS o, pg_catalog.regexp_split_to_table(pg_catalog.substr(o.i, 5) || pg_catalog.left(o.i, 4), '') WITH ORDINALITY AS c(c, n)) ELSE false END

-- name: card_like
-- Contains as many digits as the number of a payment card has.
{v} ~ '(^|[^0-9.])[0-9]([ -]?[0-9]){{12,18}}($|[^0-9])'

-- name: card
-- Contains the number of a payment card: a known beginning, and a checksum by Luhn. ISO/IEC 7812.
CASE WHEN {v} ~ '(^|[^0-9.])[0-9]([ -]?[0-9]){{12,18}}($|[^0-9])' THEN (SELECT o.i ~ '^(4|5[1-5]|2[2-7]|3[47]|6)' AND pg_catalog.mod(pg_catalog.sum(CASE WHEN pg_catalog.mod(pg_catalog.length(o.i) - d.n, 2::bigint) = 0 THEN d.d::integer WHEN d.d::integer > 4 THEN 2 * d.d::integer - 9 ELSE 2 * d.d::integer END), 10::bigint) = 0 FROM (SELECT pg_catalog.translate(pg_catalog."substring"({v}, '(?:^|[^0-9.])([0-9](?:[ -]?[0-9]){{12,18}})(?:$|[^0-9])'), ' -', '') AS i OFFSET 0) AS o, pg_catalog.regexp_split_to_table(o.i, '') WITH ORDINALITY AS d(d, n) GROUP BY o.i) ELSE false END

-- name: ip
-- Is an address of IPv4 or IPv6.
{v} ~ '^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){{3}}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(:[0-9]+)?$' OR {v} ~* '^([0-9a-f]{{1,4}}:){{7}}[0-9a-f]{{1,4}}$' OR {v} ~* '^[0-9a-f:]*[0-9a-f]::[0-9a-f:]*$'

-- name: ssn
-- Is a social security number of the United States.
{v} ~ '^(00[1-9]|0[1-9][0-9]|[1-8][0-9]{{2}})-[0-9]{{2}}-[0-9]{{4}}$'

-- name: named
-- Begins with a first name of the list, and has no more than four words.
pg_catalog.split_part({v}, ' ', 1) = ANY ({names}::pg_catalog.text[]) AND {v} !~ '[0-9@_]' AND pg_catalog.length({v}) < 60 AND {v} !~ '( .*){{4}}'

-- name: named_distinct
-- Different such values.
pg_catalog.count(DISTINCT {v}) FILTER (WHERE {condition})

-- name: keys
-- Is a document with keys of personal values.
{v} ~* '"(first_?name|last_?name|full_?name|sur_?name|e_?-?mail(_?address)?|(mobile_?|home_?|work_?)?phone(_?number)?|telephone|ssn|iban|passport(_?number)?|password|passwd|secret|api_?key|access_?token|birth_?date|birth_?day|date_?of_?birth|dob|street(_?address)?|postal_?code|zip_?code|credit_?card|card_?number|vorname|nachname|geburtsdatum|prenom|ip_?address|user_?agent)"\s*:\s*["0-9]'
