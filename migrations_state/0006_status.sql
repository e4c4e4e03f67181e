-- What status reports about a run that stopped: the step that continues it, and since when a phase lasts.

ALTER TABLE confiture.run
    ADD COLUMN blocked_command text,
    ADD COLUMN phase_since     timestamptz;
COMMENT ON COLUMN confiture.run.blocked_command IS
    'The step with its options that resolves blocked_reason, without --target; NULL when nothing blocks the run';

CREATE FUNCTION confiture.note_phase() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.phase_since := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER note_phase BEFORE UPDATE OF cutover_phase ON confiture.run
    FOR EACH ROW WHEN (OLD.cutover_phase IS DISTINCT FROM NEW.cutover_phase) EXECUTE FUNCTION confiture.note_phase();
