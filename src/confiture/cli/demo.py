"""``demo``: see the main job done on a private server."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import demo as demonstration


def _say(text: str) -> None:
    # Commands of the demo write to the same terminal: keep the order of lines.
    print(text, flush=True)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server up and say how to look around.")] = False,
) -> None:
    """Move a generated database with a kill -9 in the middle; needs no server."""
    demonstration.run(keep=keep, say=_say)
