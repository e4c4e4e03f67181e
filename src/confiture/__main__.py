"""``python -m confiture``."""

from confiture.cli import main

if __name__ == "__main__":
    main()
