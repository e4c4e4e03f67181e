CREATE TABLE music.album (
    album_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    artist_id integer NOT NULL,
    title     text NOT NULL CHECK (title <> ''),
    CONSTRAINT album_artist_fkey FOREIGN KEY (artist_id) REFERENCES music.artist ON DELETE RESTRICT,
    CONSTRAINT album_artist_title_key UNIQUE (artist_id, title)
);
COMMENT ON TABLE music.album IS 'A record; an artist does not use a title twice';
