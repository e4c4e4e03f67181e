-- confiture: no-transaction
CREATE INDEX CONCURRENTLY track_by_lower_name ON "Track" (lower("Name"));
