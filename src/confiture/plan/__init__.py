"""The plan of a run. Only ``expressions`` and ``trust`` query a database; the other modules are pure."""
