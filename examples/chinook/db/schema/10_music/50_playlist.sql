CREATE TABLE music.playlist (
    playlist_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    is_public   boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE music.playlist IS 'A named list of tracks; names repeat';
COMMENT ON COLUMN music.playlist.is_public IS 'New in this design: old playlists start private';

CREATE TABLE music.playlist_entry (
    playlist_id integer NOT NULL REFERENCES music.playlist ON DELETE CASCADE,
    track_id    integer NOT NULL REFERENCES music.track ON DELETE CASCADE,
    PRIMARY KEY (playlist_id, track_id)
);
COMMENT ON TABLE music.playlist_entry IS 'A track of a playlist';
CREATE INDEX playlist_entry_track_idx ON music.playlist_entry (track_id);
