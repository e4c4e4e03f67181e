-- The rows that every relation of the new schema must hold, computed from the old one by other means
-- than the mapping. Each query runs on the source, with TimeZone UTC; its columns are those of the
-- target, in order. Compare it, as text and in both directions, with SELECT * FROM the relation.

-- name: music.artist
SELECT
    "ArtistId" AS artist_id,
    CASE WHEN "Name" IS NULL THEN 'Unknown artist' ELSE "Name" END AS name,
    NULL::text AS biography
FROM public."Artist";

-- name: music.album
SELECT album."AlbumId" AS album_id, artist."ArtistId" AS artist_id, album."Title" AS title
FROM public."Album" AS album
JOIN public."Artist" AS artist USING ("ArtistId");

-- name: music.genre
SELECT "GenreId" AS genre_id, "Name" AS name
FROM public."Genre";

-- name: music.track
SELECT
    track."TrackId" AS track_id,
    track."AlbumId" AS album_id,
    track."GenreId" AS genre_id,
    track."Name" AS title,
    ARRAY(
        SELECT composer
        FROM regexp_split_to_table(track."Composer", ', ') WITH ORDINALITY AS part (composer, place)
        ORDER BY place
    ) AS composers,
    -- from the name in "MediaType", where the mapping goes by the number
    (
        SELECT replace(replace(replace(lower(kind."Name"), ' file', ''), ' ', '_'), 'mpeg-4', 'mpeg4')
        FROM public."MediaType" AS kind
        WHERE kind."MediaTypeId" = track."MediaTypeId"
    ) AS media,
    track."Milliseconds" * interval '1 millisecond' AS duration,
    track."Bytes"::bigint AS byte_size,
    -- half up in whole numbers: (2a + b) / 2b, rounded down
    div(2::numeric * 8 * track."Bytes" + track."Milliseconds", 2::numeric * track."Milliseconds")::integer
        AS bitrate_kbps,
    replace(track."UnitPrice"::text, '.', '')::integer AS price_cents,
    round(track."Bytes" / 1024.0 / 1024.0, 2) AS megabytes
FROM public."Track" AS track;

-- name: music.playlist
SELECT "PlaylistId" AS playlist_id, "Name" AS name, false AS is_public
FROM public."Playlist";

-- name: music.playlist_entry
SELECT playlist."PlaylistId" AS playlist_id, track."TrackId" AS track_id
FROM public."PlaylistTrack"
JOIN public."Playlist" AS playlist USING ("PlaylistId")
JOIN public."Track" AS track USING ("TrackId");

-- name: staff.employee
SELECT
    "EmployeeId" AS employee_id,
    "ReportsTo" AS manager_id,
    format('%s %s', "FirstName", "LastName") AS full_name,
    "FirstName" AS first_name,
    "LastName" AS last_name,
    "Title" AS job_title,
    to_char("BirthDate", 'YYYY-MM-DD') AS born_on,
    to_char("HireDate", 'YYYY-MM-DD') AS hired_on,
    "Address" AS street,
    "City" AS city,
    "State" AS region,
    "Country" AS country,
    "PostalCode" AS postal_code,
    translate("Phone", ' ()-', '') AS phone,
    "Email" AS email
FROM public."Employee";

-- name: sales.customer
SELECT
    "CustomerId" AS customer_id,
    "SupportRepId" AS support_rep_id,
    format('%s %s', "FirstName", "LastName") AS full_name,
    "FirstName" AS first_name,
    "LastName" AS last_name,
    coalesce("Company" = "Company", false) AS is_business,
    translate("Phone", ' ()-', '') AS phone,
    "Fax" AS fax,
    "Email" AS email,
    substr(lower("Email"), position('@' IN "Email") + 1) AS email_domain,
    0 AS revision
FROM public."Customer";

-- name: sales.customer_address
SELECT
    "CustomerId" AS customer_id,
    "Address" AS street,
    "City" AS city,
    "State" AS region,
    CASE WHEN "Country" IS NULL THEN 'unknown' ELSE "Country" END AS country,
    translate("PostalCode", 'abcdefghijklmnopqrstuvwxyz', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ') AS postal_code
FROM public."Customer";

-- name: sales.customer_company
SELECT "CustomerId" AS customer_id, "Company" AS name
FROM public."Customer"
WHERE octet_length("Company") >= 0;

-- name: sales.invoice
SELECT
    "InvoiceId" AS invoice_id,
    "CustomerId" AS customer_id,
    to_char("InvoiceDate", 'YYYY-MM-DD HH24:MI:SS"+00"') AS issued_at,
    "BillingAddress" AS billing_street,
    "BillingCity" AS billing_city,
    "BillingState" AS billing_region,
    "BillingCountry" AS billing_country,
    "BillingPostalCode" AS billing_postal_code,
    replace("Total"::text, '.', '')::bigint AS total_cents,
    (ARRAY['small', 'medium', 'large'])[width_bucket("Total", ARRAY[2.00, 10.00]) + 1] AS size,
    to_char("InvoiceDate", 'YYYY')::integer AS issued_year
FROM public."Invoice";

-- name: sales.invoice_item
SELECT
    "InvoiceLineId" AS invoice_item_id,
    "InvoiceId" AS invoice_id,
    "TrackId" AS track_id,
    "Quantity" AS quantity,
    replace("UnitPrice"::text, '.', '')::integer AS unit_price_cents,
    replace(("UnitPrice" * "Quantity")::text, '.', '')::integer AS amount_cents
FROM public."InvoiceLine";

-- name: sales.refund
SELECT NULL::bigint AS refund_id, NULL::bigint AS invoice_id, NULL::bigint AS amount_cents
WHERE false;

-- name: sales.revenue_by_country
SELECT
    "BillingCountry" AS country,
    count(DISTINCT "InvoiceId") AS invoices,
    -- from the lines, which add up to the totals in the old database
    (sum("UnitPrice" * "Quantity") * 100)::bigint AS revenue_cents
FROM public."Invoice"
JOIN public."InvoiceLine" USING ("InvoiceId")
GROUP BY "BillingCountry";

-- name: music.album_summary
SELECT
    album."AlbumId" AS album_id,
    album."Title" AS title,
    (SELECT "Name" FROM public."Artist" AS artist WHERE artist."ArtistId" = album."ArtistId") AS artist_name,
    count(track."TrackId") AS tracks,
    sum(track."Milliseconds") * interval '1 millisecond' AS duration,
    (sum(track."UnitPrice") * 100)::bigint AS price_cents
FROM public."Album" AS album
LEFT JOIN public."Track" AS track ON track."AlbumId" = album."AlbumId"
GROUP BY album."AlbumId";
