"""Capture of the application's changes, catch-up that applies them, and the write block.

The log holds keys, never values: the row behind a key is read again through the one view of its table
(docs/invariants.md, I-4.1 and I-5.1).
"""
