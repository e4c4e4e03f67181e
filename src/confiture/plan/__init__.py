"""The plan of a run: pure, but for the source's judgement of expressions."""
