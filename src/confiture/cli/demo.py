"""``demo``: move a generated database on a private server."""

from __future__ import annotations

from typing import Annotated

import typer

from confiture import demo as demonstration


def _say(text: str) -> None:
    # The demo's commands write to the same terminal. Flush each line to keep the order of lines.
    print(text, flush=True)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the server running and print how to connect to it.")
    ] = False,
) -> None:
    """Move a generated database, with a kill -9 during the copy.

    The command starts a private server.
    """
    demonstration.run(keep=keep, say=_say)
