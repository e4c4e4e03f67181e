"""Comparing source and target: every row by hash, foreign keys, sequences, constraints, indexes."""
