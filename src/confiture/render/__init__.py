"""Results as text for people and as JSON for programs. The modules format values and use no database."""
