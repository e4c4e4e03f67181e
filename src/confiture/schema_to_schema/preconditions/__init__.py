"""Preconditions of a run, one a file: each raises an error that names the object, the reason and the next step."""
