-- The table of changed keys, the step that rebuilds indexes and constraints, and the paused pooler get their names.

ALTER TABLE confiture.touched RENAME TO changed_key;
ALTER TABLE confiture.changed_key RENAME CONSTRAINT touched_pkey TO changed_key_pkey;
UPDATE confiture.step SET phase = 'rebuild' WHERE phase = 'finish';
UPDATE confiture.run
SET options = options - 'gate' || jsonb_build_object('pooler', options -> 'gate') WHERE options ? 'gate';
