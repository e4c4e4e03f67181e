"""The journal: the only reader and writer of the control tables; it never interprets what callers store."""
