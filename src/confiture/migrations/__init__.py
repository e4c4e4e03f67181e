"""Running incremental migrations: as a transaction, by statement, or in a transaction that is rolled back."""
