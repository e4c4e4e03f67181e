-- More kinds of objects that are taken off for the load: rules, CHECK constraints, publications, event triggers.

ALTER TABLE confiture.deferred_object DROP CONSTRAINT deferred_object_kind_check;
ALTER TABLE confiture.deferred_object ADD CONSTRAINT deferred_object_kind_check CHECK (kind IN
    ('index', 'constraint', 'foreign_key', 'trigger', 'rule', 'check', 'publication', 'event_trigger'));
