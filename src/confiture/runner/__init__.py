"""The runner of a run: its lease, its sessions, its resumable steps, and the transitions of the run's state."""
