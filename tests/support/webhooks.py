"""Receivers of webhooks on this machine: some accept, others fail in the ways that receivers fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhooks:
    """A server whose paths behave differently: ``/accept``, ``/error``, ``/elsewhere``, ``/hang`` and ``/until``.

    :ivar requests: each request, with its path and body, in their order.
    :ivar until: ``/until`` accepts a request when this is true.
    """

    port: int
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    until: Callable[[], bool] = lambda: True

    def url(self, path: str) -> str:
        """The address of a path; it contains a secret."""
        return f"http://127.0.0.1:{self.port}{path}?token=canary-token"

    def received(self, path: str) -> list[dict[str, Any]]:
        """The bodies that a path was sent."""
        return [body for at, body in self.requests if at == path]


@contextmanager
def webhooks() -> Iterator[Webhooks]:
    """A server for the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            found.requests.append((path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            while (path == "/hang" or (path == "/until" and not found.until())) and not found.closing.wait(0.05):
                pass
            self.send_response({"/error": 500, "/elsewhere": 302}.get(path, 200))
            if path == "/elsewhere":
                self.send_header("Location", f"http://localhost:{found.port}/stolen")
            self.end_headers()

        def do_GET(self) -> None:
            found.requests.append((self.path.partition("?")[0], {}))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Webhooks(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            found.closing.set()
            server.shutdown()
            thread.join()
