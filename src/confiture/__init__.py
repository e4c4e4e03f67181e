"""Confiture moves a live PostgreSQL database into a new database with a new schema."""

__version__ = "0.1.0"
