"""Capture: which rows the application changes while its tables are copied, and bringing them over.

The log holds keys, never values: what a row became is read again through the one SELECT
(correctness.md, 4 and 5).
"""
