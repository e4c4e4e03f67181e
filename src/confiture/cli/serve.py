"""``serve``: the page about a run over HTTP, which refreshes itself."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from confiture import config
from confiture.cli import options, terminal
from confiture.config import find_project
from confiture.errors import UsageError
from confiture.status.details import PageFacts
from confiture.status.details_reader import page_facts
from confiture.web import access

#: The extra of ``pyproject.toml`` that has the packages of the server.
EXTRA = "confiture[web]"


def _server() -> ModuleType:
    try:
        return import_module("confiture.web.server")
    except ModuleNotFoundError as error:
        raise UsageError(
            "the packages of the server are not installed",
            why=f"serve needs them ({error})",
            fix=f"install them beside confiture: pip install '{EXTRA}', or pipx install --force '{EXTRA}'",
        ) from None


def serve(
    target: options.Target,
    project: options.Project = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at. One that other machines reach requires a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for any that is free.")] = 8787,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="Require the token in this file; it is created if it does not exist.",
            show_default="~/.local/state/confiture/serve.token if other machines reach the address",
        ),
    ] = None,
    show_values: options.ShowValues = False,
) -> None:
    """Serve the page about the run of a target until Ctrl-C.

    It answers /, /status.json, /metrics and /healthz, and changes nothing.
    """
    server = _server()
    where = project if project is not None else find_project(Path.cwd())
    config.resolve(target, where)  # a name that is wrong is reported now

    def read() -> PageFacts:
        return page_facts(target, where, given_project=project, show_values=show_values)

    with server.listen(host, port) as listening:
        local = server.is_local(listening)
        file = token_file if token_file is not None or local else access.default_file()
        token = access.read_or_create(file) if file is not None else None
        shown = f"[{host}]" if ":" in host else host
        terminal.emit(f"serving http://{shown}:{listening.getsockname()[1]}/ until Ctrl-C")
        if file is not None:
            terminal.emit(f"the token is in {file}: give it as the password, with any user name")
        if not local:
            terminal.emit("the connection is not encrypted: use it in a network that you trust, or behind a TLS proxy")
        server.run(server.application(read, access.Access(token, host)), listening)
