CREATE VIEW sales.revenue_by_country AS
SELECT billing_country AS country, count(*) AS invoices, sum(total_cents)::bigint AS revenue_cents
FROM sales.invoice
GROUP BY billing_country;
COMMENT ON VIEW sales.revenue_by_country IS 'Always current';

CREATE MATERIALIZED VIEW music.album_summary AS
SELECT
    album.album_id,
    album.title,
    artist.name AS artist_name,
    count(track.track_id) AS tracks,
    sum(track.duration) AS duration,
    sum(track.price_cents)::bigint AS price_cents
FROM music.album
JOIN music.artist USING (artist_id)
LEFT JOIN music.track USING (album_id)
GROUP BY album.album_id, album.title, artist.name;
COMMENT ON MATERIALIZED VIEW music.album_summary IS 'For the shop window; refreshed at night';
CREATE UNIQUE INDEX album_summary_album_idx ON music.album_summary (album_id);
