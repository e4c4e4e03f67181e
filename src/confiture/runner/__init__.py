"""The one runner of a run: its lease, its sessions, its resumable steps, the transitions of the state."""
