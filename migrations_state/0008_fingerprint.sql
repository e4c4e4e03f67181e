-- The fingerprint of the target's tables is in the run's own schema, beside what it describes.

ALTER TABLE confiture.table_plan DROP COLUMN target_shape;
ALTER TABLE confiture.verification DROP CONSTRAINT verification_purpose_check,
    ADD CONSTRAINT verification_purpose_check CHECK (purpose IN ('verify', 'cutover', 'reverse'));
