-- The role of the database session that wrote an event, and of the one that holds the run. NULL in rows of older versions.

ALTER TABLE confiture.event ADD COLUMN role text;
ALTER TABLE confiture.runner ADD COLUMN role text;

CREATE FUNCTION confiture.note_role() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.role := session_user;
    RETURN NEW;
END $$;
CREATE TRIGGER note_role BEFORE INSERT ON confiture.event
    FOR EACH ROW EXECUTE FUNCTION confiture.note_role();
CREATE TRIGGER note_role BEFORE INSERT ON confiture.runner
    FOR EACH ROW EXECUTE FUNCTION confiture.note_role();
COMMENT ON COLUMN confiture.event.role IS 'session_user as the server knows it; a trigger sets it';
