-- Why a runner holds back, and since when; gone with the runner.

ALTER TABLE confiture.runner ADD COLUMN throttle_reason text, ADD COLUMN throttled_since timestamptz;
