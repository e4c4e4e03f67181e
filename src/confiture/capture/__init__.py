"""Capture: which rows the application changes while its tables are copied, and bringing them over.

The log holds keys, never values: what a row became is read again through the one SELECT
(docs/invariants.md, I-4.1 and I-5.1).
"""
