"""Status: the facts of a run, read in one transaction, and their severity, judged by pure functions."""
