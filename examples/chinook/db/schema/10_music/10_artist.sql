CREATE TABLE music.artist (
    artist_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name      text NOT NULL,
    biography text
);
COMMENT ON TABLE music.artist IS 'A person or a band, as printed on the record';
COMMENT ON COLUMN music.artist.biography IS 'New in this design: nothing to bring along';
CREATE INDEX artist_name_idx ON music.artist (lower(name));
