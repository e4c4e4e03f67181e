"""Results for people and for programs: text out of values, no database, no decisions."""
