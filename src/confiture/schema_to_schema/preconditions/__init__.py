"""Preconditions, one a file: each says what refuses, why, and the way out."""
