-- Reads of the target before the cutover: where readers are redirected, and up to when the target has every change.

ALTER TABLE confiture.run
    ADD COLUMN reads_phase text CHECK (reads_phase IN ('opening', 'open', 'closing')),
    ADD COLUMN reads_since timestamptz,
    ADD COLUMN reads_limit double precision,
    ADD CHECK ((reads_phase IS NULL) = (reads_since IS NULL));
COMMENT ON COLUMN confiture.run.reads_phase IS
    'Where reads are redirected before the cutover; NULL while they stay on the source. A rollback redirects them back';
COMMENT ON COLUMN confiture.run.reads_limit IS 'Seconds that the target may be behind for its readers';

ALTER TABLE confiture.catchup ADD COLUMN fresh_at timestamptz;
COMMENT ON COLUMN confiture.catchup.fresh_at IS
    'Every change that was committed on the source before is in the target, by the target''s clock';
