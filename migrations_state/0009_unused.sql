-- Without the columns that are never read and the values that are never written. The last reverse pass gets its name.

ALTER TABLE confiture.catchup RENAME COLUMN home TO reverse;
ALTER TABLE confiture.run
    DROP COLUMN ddl_digest,
    DROP CONSTRAINT run_writes_served_by_check,
    ADD CONSTRAINT run_writes_served_by_check CHECK (writes_served_by IN ('source', 'target'));
ALTER TABLE confiture.step DROP COLUMN detail;
ALTER TABLE confiture.request
    DROP COLUMN seen_at,
    DROP CONSTRAINT request_kind_check,
    ADD CONSTRAINT request_kind_check CHECK (kind IN ('pause', 'resume', 'throttle'));
ALTER TABLE confiture.deferred_object
    DROP CONSTRAINT deferred_object_kind_check,
    ADD CONSTRAINT deferred_object_kind_check CHECK (kind IN
        ('index', 'constraint', 'foreign_key', 'trigger', 'rule', 'check', 'publication'));
