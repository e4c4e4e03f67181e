"""A run from schema to schema, from setup to cleanup: the work of each command, and what several commands share.

Each transaction leads from one durable state to the next. After a crash, the same command continues.
"""
