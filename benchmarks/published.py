"""Tables and plots of docs/benchmarks.md that a script measured: each stands between markers and is never edited."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
_COLOURS = ("#3b6ea5", "#c8553d", "#5b8c5a", "#8a6fb0")


@dataclass(frozen=True)
class Series:
    """The data of a plot: for each name, (label of x, y) in order."""

    x: str
    y: str
    lines: dict[str, list[tuple[str, float]]]
    bars: bool = False


@dataclass(frozen=True)
class Part:
    """A measured table with its plot."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    series: Series


def table(part: Part, where: str, command: str) -> str:
    """The part as Markdown: what was measured and where, the table, and the command that measures it again."""
    lines = [f"| {' | '.join(cells)} |" for cells in (part.head, ["---"] * len(part.head), *part.rows)]
    return "\n".join([f"{part.title[0].upper()}{part.title[1:]}. {where}", "", *lines, "", f"`{command}`"])


def write(docs: Path, name: str, part: Part, where: str, command: str) -> None:
    """Replace the table between the markers of ``name`` in benchmarks.md, and the plot.

    :raises SystemExit: when the page has no such markers.
    """
    page = docs / "benchmarks.md"
    begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    text = page.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise SystemExit(f"{page} has no lines {begin} and {end}")
    image = f"images/benchmark-{name}.svg"
    shown = f"\n\n![{part.title}]({image})" if _plot(docs / image, part) else ""
    body = f"{begin}\n{table(part, where, command)}{shown}\n{end}"
    new = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: body, text, flags=re.DOTALL)
    page.write_text(new, encoding="utf-8")


def _plot(path: Path, part: Part) -> bool:
    """Draw the plot on a white ground, which is readable in dark mode too; False without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no plot is drawn: matplotlib is not installed; pip install -e '.[bench]'", file=sys.stderr)
        return path.exists()
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "confiture"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), facecolor="white")
    lines = part.series.lines
    for n, (name, points) in enumerate(lines.items()):
        labels, values = [label for label, _ in points], [value for _, value in points]
        colour = _COLOURS[n % len(_COLOURS)]
        if part.series.bars:
            width = 0.8 / len(lines)
            axes.bar([i + n * width for i in range(len(values))], values, width, label=name, color=colour)
            axes.set_xticks([i + 0.4 - width / 2 for i in range(len(labels))], labels)
        else:
            axes.plot(labels, values, marker="o", label=name, color=colour)
    axes.set(xlabel=part.series.x, ylabel=part.series.y, title=part.title)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return True
