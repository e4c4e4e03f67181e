-- The way home after a cutover: its own numbered passes, and the shape of the target's tables while they are followed.

ALTER TABLE confiture.catchup ADD COLUMN home bigint NOT NULL DEFAULT 0;
ALTER TABLE confiture.table_plan ADD COLUMN target_shape jsonb;
