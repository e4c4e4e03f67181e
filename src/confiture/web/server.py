"""The server of the page: it answers four paths and changes nothing. It needs the packages of the extra ``web``."""

from __future__ import annotations

import json
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from confiture.errors import Refused, UsageError
from confiture.render.metrics import exposition
from confiture.status.details import PageFacts
from confiture.web import page
from confiture.web.access import HEALTH, Access, is_loopback
from confiture.web.latest import Latest

#: The type of the exposition that ``status --format openmetrics`` prints.
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
#: Connections at a time; more are refused until others have ended.
CONNECTIONS_MOST = 100

_HEADERS = {
    "content-security-policy": f"{page.policy(live=True)}; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests by :class:`Access`, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        headers = {name.lower(): value for name, value in Headers(scope=scope).items()}
        refused = self._access.refusal(scope["method"], scope["path"], headers)
        if refused is None:
            await self._app(scope, receive, guarded)
            return
        answer = PlainTextResponse(refused.text + "\n", refused.status, dict(refused.headers))
        await answer(scope, receive, guarded)


def application(read: Callable[[], PageFacts], access: Access) -> ASGIApp:
    """The application that answers requests.

    :param read: reads the facts; called in a thread.
    """
    latest = Latest(read)

    async def show(_: Request) -> Response:
        return Response((await latest.get()).html, media_type="text/html")

    async def status(_: Request) -> Response:
        found = (await latest.get()).report
        return Response(json.dumps(found.as_json(), indent=2, ensure_ascii=False), media_type="application/json")

    async def metrics(_: Request) -> Response:
        return Response(exposition((await latest.get()).report), media_type=OPENMETRICS)

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    paths = {"/": show, "/status.json": status, "/metrics": metrics, HEALTH: health}
    routes = [Route(path, answer, methods=["GET"]) for path, answer in paths.items()]
    return Guard(Starlette(routes=routes), access)


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections.

    :param port: 0 for any that is free.
    :raises UsageError: when the host is no address of this machine.
    :raises Refused: when the port is in use, or may not be used by this user.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"{host} is no address",
            why=getattr(error, "strerror", None) or str(error),
            fix="give --host an address of this machine",
        ) from None
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(CONNECTIONS_MOST)
    except OSError as error:
        found.close()
        raise Refused(
            f"port {port} of {host} cannot be used",
            why=error.strerror or str(error),
            fix="give another port with --port",
        ) from None
    return found


def is_local(found: socket.socket) -> bool:
    """Whether only this machine reaches the socket."""
    return is_loopback(str(found.getsockname()[0]))


def run(app: ASGIApp, found: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM, which end the server without waiting for the answers in progress."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # an answer that is not finished is no error
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MOST,
        timeout_graceful_shutdown=0,
    )
    # uvicorn raises the signal again after it has ended.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[found])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
