"""Write the state diagram of ``states.py`` into ``architecture.md``: ``python docs/generate.py``."""

from __future__ import annotations

import re
from pathlib import Path

from confiture.states import EDGES, FINAL, SETUP

PAGE = Path(__file__).parent / "architecture.md"
_BLOCK = re.compile(r"```mermaid\n.*?```", re.DOTALL)


def diagram() -> str:
    """The states and their edges, each with its trigger and why one would fire it."""
    lines = ["stateDiagram-v2", f"    [*] --> {SETUP}"]
    lines += [f"    {e.source} --> {e.target}: {e.trigger} ({e.why.replace(';', ',')})" for e in EDGES]
    lines += [f"    {state} --> [*]" for state in FINAL]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def page() -> str:
    """The page with its diagram as it must be."""
    return _BLOCK.sub(lambda _: diagram(), PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
