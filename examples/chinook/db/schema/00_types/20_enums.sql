-- Takes the place of the old table "MediaType": five rows that never changed.
CREATE TYPE music.media_kind AS ENUM (
    'mpeg_audio', 'aac_audio', 'protected_aac_audio', 'purchased_aac_audio', 'protected_mpeg4_video'
);
COMMENT ON TYPE music.media_kind IS 'How a track is encoded';

CREATE TYPE sales.invoice_size AS ENUM ('small', 'medium', 'large');
COMMENT ON TYPE sales.invoice_size IS 'small: below 2.00, medium: below 10.00, large: the rest';
