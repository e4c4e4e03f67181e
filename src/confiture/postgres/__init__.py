"""Connections to PostgreSQL: sessions, retries, sessions that block, stalled connections, a private server."""
