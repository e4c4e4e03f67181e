CREATE TABLE music.track (
    track_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    album_id     integer REFERENCES music.album ON DELETE SET NULL,
    genre_id     integer REFERENCES music.genre,
    title        text NOT NULL,
    composers    text[] NOT NULL DEFAULT '{}',
    media        music.media_kind NOT NULL,
    duration     interval NOT NULL CONSTRAINT track_duration_check CHECK (duration > interval '0'),
    byte_size    bigint,
    bitrate_kbps integer,
    price_cents  integer NOT NULL CONSTRAINT track_price_check CHECK (price_cents >= 0),
    megabytes    numeric GENERATED ALWAYS AS (round(byte_size / 1048576.0, 2)) STORED
);
COMMENT ON TABLE music.track IS 'One track of an album, as it is sold';
COMMENT ON COLUMN music.track.composers IS 'In the order of the record; empty when unknown';
COMMENT ON COLUMN music.track.duration IS 'Exact to the millisecond';
COMMENT ON COLUMN music.track.bitrate_kbps IS 'Average, in 1000 bits per second';
COMMENT ON COLUMN music.track.price_cents IS 'US cents';
CREATE INDEX track_album_idx ON music.track (album_id);
CREATE INDEX track_genre_idx ON music.track (genre_id);
CREATE INDEX track_composers_idx ON music.track USING gin (composers);
CREATE INDEX track_video_idx ON music.track (title) WHERE media = 'protected_mpeg4_video';
