"""The state diagram of ``states.py``: as Mermaid in ``architecture.md``, as SVG on the site.

``python docs/generate.py`` writes the Mermaid text, which GitHub draws. mkdocs loads this module as a hook. The hook
publishes the JSON schemas, and adapts each page to the site: the diagram becomes an SVG, as Mermaid would be loaded
from another server, and lists are indented as Python-Markdown expects.
https://www.mkdocs.org/user-guide/configuration/#hooks
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from confiture.states import EDGES, FINAL, SETUP, STATES, Edge

PAGE = Path(__file__).parent / "architecture.md"
SCHEMAS = PAGE.parent.parent / "src/confiture/schemas"
_BLOCK = re.compile(r"```mermaid\n.*?```", re.DOTALL)
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_ITEM = re.compile(r"( *)(?:[-*]|\d+\.) ")

#: Pixels between two states, and between two edges.
_COLUMN, _ROW = 132, 40
_BOX_WIDTH, _BOX_HEIGHT = 104, 32
_TOP = 8
_WIDTH, _HEIGHT = _COLUMN * len(STATES), _TOP + _BOX_HEIGHT + _ROW * len(EDGES) + 16


def diagram() -> str:
    """The states and their edges, each with its trigger and why one would fire it."""
    lines = ["stateDiagram-v2", f"    [*] --> {SETUP}"]
    lines += [f"    {e.source} --> {e.target}: {e.trigger} ({e.why.replace(';', ',')})" for e in EDGES]
    lines += [f"    {state} --> [*]" for state in FINAL]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def page() -> str:
    """The page with its diagram as it must be."""
    return _BLOCK.sub(lambda _: diagram(), PAGE.read_text(encoding="utf-8"))


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs with the files of the site: the JSON schemas join them."""
    from mkdocs.structure.files import File  # only where the site is built

    for path in sorted(SCHEMAS.glob("*.json")):
        content = path.read_text(encoding="utf-8")
        files.append(File.generated(config, f"schemas/{path.name}", content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for each page."""
    markdown = markdown.replace("../src/confiture/schemas/", "schemas/")
    parts = _FENCED.split(_BLOCK.sub(lambda _: svg(), markdown))
    return "".join(part if part.startswith("```") else _lists(part) for part in parts)


def _lists(text: str) -> str:
    """The text with its lists as Python-Markdown expects them, which is stricter than CommonMark.

    Nested parts are indented by four spaces instead of two, and a blank line separates a paragraph of an item from the
    next item.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        item, before = _ITEM.match(line), lines[-1] if lines else ""
        if item and before.startswith(" "):
            outer = _ITEM.match(before)
            if outer is None or len(item[1]) * 2 < len(outer[1]):
                lines.append("")
        indent = len(line) - len(line.lstrip(" "))
        lines.append(" " * indent + line)
    return "\n".join(lines)


def svg() -> str:
    """One column for each state and one arrow for each edge; the style sheet of the site has the colours."""
    parts = [f"<line x1='{_x(s)}' x2='{_x(s)}' y1='{_TOP + _BOX_HEIGHT}' y2='{_HEIGHT}'/>" for s in STATES]
    parts += [_state(state) for state in STATES]
    parts += [_arrow(edge, row) for row, edge in enumerate(EDGES, 1)]
    return (
        f"<figure><svg class='states' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='The states of a run and "
        "the edges between them'>"
        "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0 0 10 5 0 10z'/></marker></defs>" + "".join(parts) + "</svg></figure>"
    )


def _x(state: str) -> int:
    return _COLUMN * STATES.index(state) + _COLUMN // 2


def _state(state: str) -> str:
    left, kind = _x(state) - _BOX_WIDTH // 2, "final" if state in FINAL else "open"
    return (
        f"<rect class='{kind}' x='{left}' y='{_TOP}' width='{_BOX_WIDTH}' height='{_BOX_HEIGHT}' rx='6'/>"
        f"<text class='name' text-anchor='middle' x='{_x(state)}' y='{_TOP + 21}'>{state}</text>"
    )


def _arrow(edge: Edge, row: int) -> str:
    """The arrow, and above it the text, which begins at its left end or ends at the right margin."""
    begin, end, y = _x(edge.source), _x(edge.target), _TOP + _BOX_HEIGHT + _ROW * row
    left = min(begin, end)
    at, anchor = (left + 6, "start") if left < _WIDTH // 2 else (_WIDTH - 6, "end")
    text = f"<tspan class='trigger'>{escape(edge.trigger)}</tspan> {escape(edge.why)}"
    return (
        f"<text text-anchor='{anchor}' x='{at}' y='{y - 8}'>{text}</text>"
        f"<path class='edge' marker-end='url(#head)' d='M{begin} {y}H{end}'/>"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
