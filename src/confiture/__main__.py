"""``python -m confiture``."""

from confiture.cli import main

main()
