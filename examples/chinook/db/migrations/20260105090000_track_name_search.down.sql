-- confiture: no-transaction
DROP INDEX CONCURRENTLY IF EXISTS track_by_lower_name;
