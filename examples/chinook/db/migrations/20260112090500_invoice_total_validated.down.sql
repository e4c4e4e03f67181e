-- A validated constraint satisfies the migration before as well.
SELECT 1;
