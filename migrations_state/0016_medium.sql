-- A run of any medium has the same row, runner and history: a move into another schema, a sync of masked rows, or migrations in place.

ALTER TABLE confiture.run
    ADD COLUMN medium text NOT NULL DEFAULT 'schema-to-schema' CHECK (medium IN ('schema-to-schema', 'sync', 'migrations')),
    DROP CONSTRAINT run_check1,
    ADD CONSTRAINT run_has_plan CHECK (medium = 'migrations' OR state IN ('setup', 'aborted') OR plan IS NOT NULL);
COMMENT ON COLUMN confiture.run.medium IS 'A run of migrations changes one database, which is its source and its target';

CREATE OR REPLACE VIEW confiture.viewed_run AS
SELECT id, state, state_since, started_at, epoch, source_name, source_conninfo, source_identity, target_name, target_identity,
       options, fdw, mapping, mapping_file, plan, plan_hash, writes_served_by, cutover_phase,
       CASE WHEN blocked_reason IS NOT NULL
            THEN 'the reason is hidden from this role, because it may contain values of rows' END AS blocked_reason,
       tool_version, blocked_command, phase_since, reads_phase, reads_since, reads_limit, medium
FROM confiture.run;
